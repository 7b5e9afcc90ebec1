"""The functions of a policy of one's own as machine code that needs no interpreter, behind addresses.

What answers a question is a C function of the address of ``mem.ctl``, where it finds what it is told. free_to, which is
asked of each free, looks at the records themselves, and is called as Numba calls its own functions; see
``kernels/alloc/policy_hooks.py``.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from fastalloc.errors import InputError
from fastalloc.kernels.alloc.policy_hooks import FAILED
from fastalloc.kernels.alloc.policy_record import ASKED, OWN
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_NODE, MEMCTL, SLUB_SLAB
from fastalloc.own.kept import kept
from fastalloc.own.questions import RECORDS, STATES, states_of
from fastalloc.own.rewritten import looks_at_turns
from fastalloc.own.text import Text

import numba  # isort: skip
from numba import cfunc, njit, types  # isort: skip
from numba.core.errors import NumbaError  # isort: skip
from numba.extending import intrinsic, overload  # isort: skip

TUPLES: dict[str, Any] = {
    **{name: namedtuple(name, fields) for name, fields in RECORDS.items()},
    "state": namedtuple("state", STATES),
}


def arguments_of(name: str, text: Text) -> list[str]:
    """The names of what a question's function takes."""
    return [argument.arg for argument in text.functions[name].args.args]


def whole(value: Any) -> int:
    """An answer: a whole number, or True or False."""
    if value is None:
        raise TypeError("ends without an answer: each way through it must return one")
    return int(value)


@overload(whole)
def _whole(value):  # type: ignore[no-untyped-def]
    if isinstance(value, types.Integer | types.Boolean):
        return lambda value: types.int64(value)
    if isinstance(value, types.Optional):

        def optional(value):  # type: ignore[no-untyped-def]
            if value is None:
                raise TypeError("ends without an answer")
            return types.int64(value)

        return optional
    if isinstance(value, types.NoneType):
        raise NumbaError("ends without an answer")
    raise NumbaError("is no whole number")


_alive: list[Any] = []  # what the addresses point into
_WORDS = types.CPointer(types.int64)
_SIGNATURE = types.int64(_WORDS)
_EVERYTHING = 1 << 48  # words behind an address
_NOT_FROM_PYTHON: Any = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

# What free_to finds in the records themselves: it is asked of each free, and to be told all that costs more than the
# free. ``slab``, ``cache`` and ``node`` are rows of SlubEras; the rest of a record's fields are their columns.
_SLAB_SIGNATURE = types.int64(_WORDS, types.CPointer(types.int32), _WORDS, _WORDS, types.int64)
_OF_SLAB = {
    "cpu": f"ctl[{MEMCTL.cpu}]",
    "context": f"ctl[{MEMCTL.context}]",
    "now": f"ctl[{MEMCTL.jiffies}] // hz * 1000 + ctl[{MEMCTL.jiffies}] % hz * 1000 // hz",
    "slab_id": "s",
    "slab_free": f"word(slab[{SLUB_SLAB.objects}] - slab[{SLUB_SLAB.inuse}])",
    "slab_total": f"word(slab[{SLUB_SLAB.objects}])",
    "slab_owner": f"word(slab[{SLUB_SLAB.owner}])",
    "slab_depth": f"word(slab[{SLUB_SLAB.depth}])",
    "cache_id": f"word(slab[{SLUB_SLAB.cache}])",
    "cache_partial": f"node[{KMEM_CACHE_NODE.nr_partial}]",
    "cache_slabs": f"node[{KMEM_CACHE_NODE.nr_slabs}]",
    **{
        f"cache_{each}": f"cache[{getattr(KMEM_CACHE, each)}]"
        for each in ("size", "objsize", "objects", "order", "pages", "min_partial")
    },
}


def _typed_moved(typingctx, pointer, words):  # type: ignore[no-untyped-def]
    """The place ``words`` behind a pointer."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


_moved: Any = intrinsic(_typed_moved)


def _found(name: str, each: str) -> str:
    """Where machine code finds what a question is asked with, ``each`` a name of ASKED."""
    return _OF_SLAB[each] if name == "free_to" else f"ctl[{MEMCTL.asked[getattr(ASKED, each)]}]"


def address_of(name: str, text: Text, function: Callable[..., Any], digest: str) -> int:
    """The address of the machine code that answers a question; ``digest`` as of ``kept``.

    Raises:
        InputError: it does not compile.
    """
    of_slab = name == "free_to"
    lines = [
        f"def asked(pointer{', slab_at, cache_at, node_at, s' if of_slab else ''}):",
        f" ctl = carray(pointer, ({_EVERYTHING},))",
    ]
    if of_slab:
        lines += [f" {each} = carray({each}_at, ({_EVERYTHING},))" for each in ("slab", "cache", "node")]
        lines += [f" hz = max(ctl[{MEMCTL.hz}], 1)"] if "now" in arguments_of(name, text) else []
    state = []
    if "state" in arguments_of(name, text):
        for which in STATES:
            words = len(text.state.get(which, ()))
            if words == 0 or which not in states_of(name):
                state.append("carray(pointer, (0,))")
                continue
            place = f"ctl[{MEMCTL.own[getattr(OWN, which)]}]"
            if which != "lane":
                place += f" + {words} * {_found(name, which if which == 'cpu' else f'{which}_id')}"
            lines.append(f" at_{which} = {place}")
            state.append(f"carray(moved(pointer, at_{which}), ({words},))")  # a slice would look where it ends
    given = []
    for argument in arguments_of(name, text):
        if argument in RECORDS:
            given.append(f"_{argument}({', '.join(_found(name, f'{argument}_{each}') for each in RECORDS[argument])})")
        elif argument == "state":
            given.append(f"_state({', '.join(state)})")
        else:
            given.append(_found(name, argument))
    turns = int(MEMCTL.own[OWN.turns])
    if looks_at_turns(name, text):
        lines.append(f" ctl[{turns}] = 0")
    given.append(f"ctl[{turns} : {turns + 1}]")
    names = [f"given_{i}" for i in range(len(given))]
    lines += [f" {each} = {value}" for each, value in zip(names, given, strict=True)]  # what is tried compiles slowly
    answer = f"return whole(function({', '.join(names)}))"
    if of_slab:  # whoever calls it sees by its status that it raised
        lines.append(f" {answer}")
    else:
        lines += [" try:", f"  {answer}", " except Exception:", f"  return {FAILED}"]
    namespace = {f"_{each}": made for each, made in TUPLES.items()}
    namespace |= {
        "carray": numba.carray,  # type: ignore[attr-defined]
        "word": types.int64,
        "moved": _moved,
        "whole": whole,
        "function": function,
    }
    try:
        with kept(digest, name, lines, namespace) as options:
            return (_native if of_slab else _called_from_c)(namespace["asked"], options)
    except NumbaError as error:
        raise InputError(text.where, *why_refused(name, text, str(error))) from None


def _called_from_c(asked: Callable[..., int], options: Mapping[str, Any]) -> int:
    compiled: Any = cfunc(_SIGNATURE, **options)(asked)
    _alive.append(compiled)
    return int(compiled.address)


def _native(asked: Callable[..., int], options: Mapping[str, Any]) -> int:
    """The address by which Numba calls it, see ``policy_hooks.ask_of_slab``."""
    compiled: Any = njit(_SLAB_SIGNATURE, **_NOT_FROM_PYTHON, **options)(asked)
    _alive.append(compiled)
    found = compiled.overloads[_SLAB_SIGNATURE.args]
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def why_refused(name: str, text: Text, said: str) -> tuple[str, str]:
    """Where and why Numba does not compile a function, from the many lines that it says."""
    at = f"{name}, line {text.functions[name].lineno}"
    if "ends without an answer" in said:
        return at, "ends without an answer: each way through it must return a whole number"
    if "unify return type" in said or "is no whole number" in said:
        return at, "returns what is no whole number on some way through it"
    line = re.search(rf'File "{re.escape(text.where)}", line (\d+)', said)
    lines = (part.strip() for part in said.splitlines())
    around = ("Failed in", "During", "File", "There are", "-", "^")
    why = next((part for part in lines if part and not part.startswith(around)), "no reason was given")
    return (f"{name}, line {line[1]}" if line else at), f"cannot be compiled: {why}"
