"""An allocator of one's own in the closed loop: its functions as machine code behind addresses, and its state.

A function is called with the addresses of the lane's arrays (see ``kernels/alloc/own/call.py``), so the kernels are the
same for every file. It notes the line that it is at: what it had changed when it raised is not undone, so it cannot be
asked again.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.own import call as kernels
from fastalloc.kernels.alloc.own.state import (
    ALLOC,
    BAD_PAGE,
    CACHE_COUNT,
    CALLS,
    FAILED,
    FREE,
    HELD,
    OWN_PAGE,
    RAISED,
    ZONE_CTL,
    Own,
)
from fastalloc.own import memory as om
from fastalloc.own import slabs
from fastalloc.own.allocator import WHY, OwnAllocator, own_allocator
from fastalloc.own.allocator_text import PROVIDED
from fastalloc.own.arithmetic import COMPILED, INTERPRETED
from fastalloc.own.compiled import PolicyError, executed_module, told_with_line
from fastalloc.own.kept import digest_of, kept
from fastalloc.own.machine_code import whole, why_refused
from fastalloc.own.plain_python import MAY_RAISE, constants_of
from fastalloc.own.rewritten import rewritten_module

import numba  # isort: skip
from llvmlite import ir  # isort: skip
from numba import cfunc, njit, types  # isort: skip
from numba.core.errors import NumbaError  # isort: skip
from numba.extending import intrinsic  # isort: skip

LEAST_PAGES = 4096  # that there are numbers for, at first
_ARGUMENTS = {"alloc": ("c", "cpu", "x"), "free": ("c", "cpu", "x"), "shrink": ("c",), "flush": ("c", "cpu")}


class LaneZone(NamedTuple):
    """``zone`` of the closed loop. Of compiled functions ``mem`` to ``give`` are addresses."""

    ctl: Any  # int64[ZONE_CTL.width]
    mem: Any
    own: Any
    take: Any
    give: Any


# ------------------------------------------------------------------------------------------- what a file may call


def _typed_call(typingctx, address, mem, own, a, b):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(word, [word] * 4).as_pointer())
        return builder.call(function, args[1:])

    return types.int64(*[types.int64] * 5), codegen


_call: Any = intrinsic(_typed_call)


@njit
def _take_pages(zone: Any, gfp: Any, order: Any) -> Any:
    return _call(zone.take, zone.mem, zone.own, gfp, order)


@njit
def _give_pages(zone: Any, page: Any, order: Any) -> Any:
    _call(zone.give, zone.mem, zone.own, page, order)


@njit
def _slow(zone: Any) -> Any:
    zone.ctl[ZONE_CTL.slow_calls] += 1


@njit
def _lock(zone: Any) -> Any:
    zone.ctl[ZONE_CTL.lock_calls] += 1


_COMPILED = {
    "take_pages": _take_pages, "give_pages": _give_pages, "slow": _slow, "lock": _lock, "current": om.current,
    **slabs.PROVIDED,
}  # fmt: skip
_INTERPRETED = {
    "take_pages": lambda zone, gfp, order: zone.take(zone.mem, zone.own, gfp, order),
    "give_pages": lambda zone, page, order: zone.give(zone.mem, zone.own, page, order),
    "slow": getattr(_slow, "py_func", _slow),
    "lock": getattr(_lock, "py_func", _lock),
    "current": getattr(om.current, "py_func", om.current),
    **{name: getattr(function, "py_func", function) for name, function in slabs.PROVIDED.items()},
}

# ---------------------------------------------------------------------------------------------------- machine code

_alive: list[Any] = []  # what the addresses point into
_EVERYTHING = 1 << 48  # words behind an address
_SIGNATURE = types.int64(types.CPointer(types.int64), types.CPointer(types.int64), *[types.int64] * 7)


@lru_cache(maxsize=32)
def _addresses(source: str, where: str, parameters: tuple[tuple[str, int], ...]) -> dict[str, int]:
    allocator = own_allocator(source, where, dict(parameters))
    text = allocator.text.text
    module = rewritten_module(text, lines=True)
    names = [name for name in CALLS if name in text.functions]
    if DISABLE_JIT:
        plain = executed_module(module, where, dict(parameters), {**INTERPRETED, **_INTERPRETED})
        found = {}
        for name in names:
            found[name] = len(kernels.functions) + 1
            kernels.functions[found[name]] = _guarded(name, plain[name], allocator)
        return found
    namespace = executed_module(module, where, dict(parameters), {**COMPILED, **_COMPILED})
    for name in dict.fromkeys(each for used in text.used.values() for each in used):
        namespace[name] = njit(error_model="python", boundscheck=True, nogil=True)(namespace[name])
    constants = [(said, value) for _, _, said, value in constants_of(text, namespace, PROVIDED)]
    digest = digest_of(source, parameters, constants)
    return {name: _address(name, allocator, namespace[name], digest) for name in names}


def _given(name: str) -> str:
    zone = "" if name == "pages_held" else "zone, "
    return f"heap, {zone}{''.join(f'{each}, ' for each in _ARGUMENTS.get(name, ()))}turns"


def _guarded(name: str, function: Callable[..., Any], allocator: OwnAllocator) -> Callable[..., int]:
    def called(mem: Any, own: Own, c: int, cpu: int, x: int) -> int:
        zone = LaneZone(own.ctl, mem, own, kernels.take_pages, kernels.give_pages)
        turns = own.ctl[ZONE_CTL.turns[:]]
        turns[0] = 0
        told = {"heap": views(allocator, own), "zone": zone, "c": c, "cpu": cpu, "x": x, "turns": turns}
        try:
            answer = function(*(told[each] for each in _given(name).split(", ")))
            return whole(answer) if name in ("alloc", "pages_held") else 0
        except MAY_RAISE:
            return FAILED

    return called


def _address(name: str, allocator: OwnAllocator, function: Callable[..., Any], digest: str) -> int:
    arrays = []
    for i, (_, columns) in enumerate(allocator.text.arrays.values()):
        place, rows = f"ctl[{ZONE_CTL.place[i]}]", f"ctl[{ZONE_CTL.rows[i]}]"
        arrays.append(f"words[{place} : {place} + {rows} * {columns}].reshape(({rows}, {columns}))")
    call, turns = f"function({_given(name)})", ZONE_CTL.turns[:]
    lines = [  # what is tried is compiled slowly, so it is the call alone
        "def called(ctl_at, words_at, mem, own, take, give, c, cpu, x):",
        f" ctl = carray(ctl_at, ({ZONE_CTL.width},))",
        f" words = carray(words_at, ({_EVERYTHING},))",
        f" turns = ctl[{turns.start} : {turns.stop}]",
        " turns[0] = 0",
        f" heap = tuple_of({', '.join(arrays)})",
        " zone = zone_of(ctl, mem, own, take, give)",
        " try:",
        *([f"  return whole({call})"] if name in ("alloc", "pages_held") else [f"  {call}", "  return 0"]),
        " except Exception:",
        f"  return {FAILED}",
    ]
    namespace = {"tuple_of": allocator.heap, "zone_of": LaneZone, "whole": whole, "function": function}
    namespace["carray"] = numba.carray  # type: ignore[attr-defined]
    text = allocator.text.text
    try:
        with kept(digest, name, lines, namespace) as options:
            compiled: Any = cfunc(_SIGNATURE, **options)(namespace["called"])
    except NumbaError as error:
        raise InputError(text.where, *why_refused(name, text, str(error))) from None
    _alive.append(compiled)
    return int(compiled.address)


# ----------------------------------------------------------------------------------------------------- into a lane


def set_addresses(allocator: OwnAllocator, ctl: np.ndarray) -> None:
    """Where this process has the functions of an allocator, for the lane of ``own.ctl``."""
    for name, address in _addresses(allocator.source, allocator.text.text.where, allocator.parameters).items():
        ctl[ZONE_CTL.address[CALLS.index(name)]] = address


def new_own(allocator: OwnAllocator, sizes: Sequence[int], cpus: int, tasks: int, pages: int) -> Own:
    """The state of an allocator that has created a cache for each of ``sizes``, bytes of an object.

    ``tasks``: that may run, and one more where none does; ``pages``: that there are numbers for, a lane that takes
    more outgrows its arrays. Raises PolicyError where ``create`` fails.
    """
    zone = om.new_zone(pages, len(sizes), 1 << 40)
    shapes = allocator.shapes(len(sizes), cpus, tasks, pages)
    ends = np.cumsum([rows * columns for rows, columns in shapes], dtype=np.int64)
    words, current = np.zeros(int(ends[-1]), np.int64), np.zeros(cpus, np.int64)
    own = Own(*zone, np.zeros((pages, OWN_PAGE.width), np.int32), words, current)
    count = len(shapes)
    own.ctl[ZONE_CTL.place[1:count]] = ends[:-1]
    own.ctl[ZONE_CTL.rows[:count]] = [rows for rows, _ in shapes]
    own.counts[:, CACHE_COUNT.size] = sizes
    set_addresses(allocator, own.ctl)
    heap, turns = views(allocator, own), np.zeros(1, np.int64)
    text = allocator.text.text
    for c, size in enumerate(sizes):
        turns[0] = 0
        try:
            allocator.interpreted["create"](heap, c, int(size), turns)
        except MAY_RAISE as error:
            line = told_with_line(error, text.where)
            raise PolicyError(f"{text.where}: {line}: create(c={c}, size={int(size)})") from None
    return own


def views(allocator: OwnAllocator, own: Own) -> Any:
    """The arrays of the file in ``own.words``."""
    made = []
    for i, (_, columns) in enumerate(allocator.text.arrays.values()):
        place, rows = int(own.ctl[ZONE_CTL.place[i]]), int(own.ctl[ZONE_CTL.rows[i]])
        made.append(own.words[place : place + rows * columns].reshape(rows, columns))
    return allocator.heap(*made)


# -------------------------------------------------------------------------------------------------- what went wrong


def failure(allocator: OwnAllocator, own: Own, name_of: Callable[[int], str]) -> str:
    """What an allocator failed at: file, line, call, and why; ``name_of`` names a cache."""
    ctl, text = own.ctl, allocator.text.text
    which, what, value = (int(ctl[each]) for each in (ZONE_CTL.wrong_call, ZONE_CTL.wrong, ZONE_CTL.wrong_value))
    name, c = CALLS[which], int(ctl[ZONE_CTL.wrong_cache])
    told = f"c={c} ({name_of(c)}), cpu={int(ctl[ZONE_CTL.wrong_cpu])}"
    if which == ALLOC:
        told += f", gfp={int(ctl[ZONE_CTL.wrong_argument]):#x}"
    elif which == FREE:
        told += f", address={int(ctl[ZONE_CTL.wrong_argument]):#x}"
    called = f"{name}({'' if name == 'pages_held' else told})"
    line = text.functions[name].lineno
    if what == RAISED:
        return f"{text.where}: line {int(ctl[ZONE_CTL.turns[1]])}: {called}: {_raised(allocator, own, which)}"
    if what == BAD_PAGE:
        why = f"page {om.bad_page(value)} was given back that is not held so, or has an object in use"
    elif what == HELD:
        line = text.functions["pages_held"].lineno
        why = f"pages_held says {value} then, but {int(ctl[ZONE_CTL.held])} pages are held"
    else:
        why = f"address {value:#x} {WHY[what]}"
    return f"{text.where}: line {line}: {called}: {why}"


def lost(allocator: OwnAllocator, own: Own, name_of: Callable[[int], str]) -> str:
    """That pages are held after ``drain``."""
    text = allocator.text.text
    pages = own.counts[:, CACHE_COUNT.pages]
    names = ", ".join(f"{int(pages[c])} of {name_of(int(c))}" for c in np.flatnonzero(pages))
    held, line = int(own.ctl[ZONE_CTL.held]), text.functions["free"].lineno
    return (
        f"{text.where}: line {line}: {held} pages are held although every object was freed and every cache shrunk "
        f"({names}): a page leaked, or an object was lost"
    )


def _raised(allocator: OwnAllocator, own: Own, which: int) -> str:
    """What a call raised, as far as it raises once more on what it left."""
    name, ctl = CALLS[which], own.ctl
    copy = Own(*(array.copy() for array in own))
    told: dict[str, Any] = {"heap": views(allocator, copy), "zone": copy, "turns": np.zeros(1, np.int64)}
    told |= {"c": int(ctl[ZONE_CTL.wrong_cache]), "cpu": int(ctl[ZONE_CTL.wrong_cpu])}
    told["x"] = int(ctl[ZONE_CTL.wrong_argument])
    try:
        allocator.interpreted[name](*(told[each] for each in _given(name).split(", ")))
    except MAY_RAISE as error:
        return told_with_line(error, allocator.text.text.where)
    return "it raised, at a state that it had changed by then"


__all__ = ["LEAST_PAGES", "failure", "lost", "new_own", "set_addresses", "views"]
