"""A policy of one's own for the kernels to call: machine code that needs no interpreter, and its words of state.

``merge`` is asked while caches are laid out, by Python; the others while a lane runs.
"""

import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.errors import InputError, LaneError, told
from fastalloc.kernels.alloc.policy_hooks import FAILED, answers
from fastalloc.kernels.alloc.policy_record import (
    ASKED,
    MATCH_ENTITLEMENT,
    MATCH_FREE_TO,
    MATCH_NEXT,
    OWN,
    QUESTION,
    TELLS_ALL,
    TELLS_CACHE,
    TELLS_NOW,
    TELLS_SLAB,
)
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own.arithmetic import COMPILED, INTERPRETED
from fastalloc.own.declared import set_parameters
from fastalloc.own.kept import digest_of
from fastalloc.own.machine_code import TUPLES, address_of, arguments_of, whole
from fastalloc.own.plain_python import MAY_RAISE, constants_of, few_lines, refuse_constants
from fastalloc.own.questions import QUESTIONS, RECORDS, REQUEST, STATES, states_of
from fastalloc.own.rewritten import looks_at_turns, rewritten_module
from fastalloc.own.text import Text, read_text, refuse_parameters

from numba import njit  # isort: skip

UNNAMED = "policy.questions"  # a policy whose file nobody named
_TELLS = {"now": TELLS_NOW, "cache": TELLS_CACHE, "slab": TELLS_SLAB}


class PolicyError(LaneError):
    """A user's policy raised, divided by zero, left the range of its answers, or did not come to an end."""


class OwnPolicy(NamedTuple):
    """``address``: of the compiled answer to each question asked while a lane runs; ``merge`` is called from Python;
    ``interpreted``: the same as plain Python, functions of ``mem.ctl``."""

    text: Text | None = None
    merge: Callable[[str, str], bool] | None = None
    address: Mapping[str, int] = MappingProxyType({})
    interpreted: Mapping[str, Callable[[np.ndarray], int]] = MappingProxyType({})

    @property
    def state(self) -> dict[str, tuple[str, ...]]:
        """Names of the words of state of each of STATES."""
        declared = self.text.state if self.text and self.address else {}
        return {name: declared.get(name, ()) for name in STATES}

    def words(self, cpus: int, caches: int, slabs: int) -> int:
        """How many words of state a lane has behind the columns of ``mem.ctl``."""
        state = self.state
        counts = (1, cpus, caches, slabs)
        return sum(count * len(state[name]) for name, count in zip(STATES, counts, strict=True))


def own_policy(source: str, where: str = "", parameters: Mapping[str, int] = MappingProxyType({})) -> OwnPolicy:
    """The answers that a policy's text defines; "" has none. ``where``: name of its file; ``parameters`` as set.

    Raises:
        InputError: the text is no policy (see ``read_text``), raises, or does not compile; an unknown parameter.
    """
    return _own_policy(source, where or UNNAMED, tuple(sorted(parameters.items()))) if source else OwnPolicy()


@lru_cache(maxsize=256)
def _own_policy(source: str, where: str, parameters: tuple[tuple[str, int], ...]) -> OwnPolicy:
    text = read_text(source, where)
    refuse_parameters(text, dict(parameters))
    module = rewritten_module(text)
    plain = executed_module(module, where, dict(parameters), INTERPRETED)
    refuse_constants(text, plain)
    merge = _merge(plain["merge"], where) if "merge" in text.functions else None
    interpreted = {name: _interpreted(name, text, plain[name]) for name in text.asked}
    if DISABLE_JIT:
        address = {}
        for name, function in interpreted.items():
            address[name] = len(answers) + 1
            answers[address[name]] = _guarded(function)
        return OwnPolicy(text, merge, address, interpreted)
    namespace = executed_module(module, where, dict(parameters), COMPILED)
    for name in dict.fromkeys(each for names in text.used.values() for each in names):
        namespace[name] = njit(error_model="python", nogil=True, boundscheck=text.has_elements)(namespace[name])
    digest = digest_of(source, parameters, [(said, value) for _, _, said, value in constants_of(text, namespace)])
    address = {name: address_of(name, text, namespace[name], digest) for name in text.asked}
    return OwnPolicy(text, merge, address, interpreted)


def executed(text: Text, parameters: Mapping[str, int]) -> dict[str, Callable[[np.ndarray], int]]:
    """The interpreted answers of the text, executed once more."""
    module = rewritten_module(text)
    plain = executed_module(module, text.where, dict(parameters), INTERPRETED)
    return {name: _interpreted(name, text, plain[name]) for name in text.asked}


def executed_module(module: Any, where: str, parameters: dict[str, int], operations: dict[str, Any]) -> dict[str, Any]:
    # By its name Numba finds a module where it loads what it kept.
    namespace: dict[str, Any] = {"__name__": __name__, **operations}
    mark = set_parameters.set(parameters)
    try:
        with few_lines(where):
            exec(module, namespace)
    except MAY_RAISE as error:
        raise InputError(where, _line_of(error, where), told(error)) from None
    finally:
        set_parameters.reset(mark)
    namespace.update(operations)  # what the file imports from fastalloc.own by these names is for editors
    return namespace


def _line_of(error: BaseException, where: str) -> str:
    """The line of the policy that raised."""
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == where]
    return f"line {lines[-1]}" if lines else ""


def told_with_line(error: BaseException, where: str) -> str:
    """The line of the policy that raised, and what."""
    return ": ".join(part for part in (_line_of(error, where), told(error)) if part)


def _merge(function: Callable[[str, str], Any], where: str) -> Callable[[str, str], bool]:
    def merge(cache: str, other: str) -> bool:
        try:
            with few_lines(where):
                return bool(function(cache, other))
        except MAY_RAISE as error:
            told_line = told_with_line(error, where)
            raise PolicyError(f"{where}: merge(cache={cache!r}, other={other!r}): {told_line}") from None

    return merge


# ------------------------------------------------------------------------------------------------ what is told


def _column(record: str, name: str) -> int:
    return int(MEMCTL.asked[getattr(ASKED, f"{record}_{name}")])


def told_to(name: str, text: Text, ctl: np.ndarray) -> dict[str, Any]:
    """The arguments that a question was asked with, as ``ctl`` has them."""
    given: dict[str, Any] = {}
    for argument in arguments_of(name, text):
        if argument in RECORDS:
            given[argument] = TUPLES[argument](*(int(ctl[_column(argument, each)]) for each in RECORDS[argument]))
        elif argument == "state":
            given[argument] = TUPLES["state"](*(_row(which, name, text, ctl) for which in STATES))
        else:
            given[argument] = int(ctl[MEMCTL.asked[getattr(ASKED, argument)]])
    return given


def _row(which: str, name: str, text: Text, ctl: np.ndarray) -> np.ndarray:
    words = len(text.state.get(which, ()))
    if words == 0 or which not in states_of(name):
        return ctl[:0]
    place = int(ctl[MEMCTL.own[getattr(OWN, which)]])
    if which != "lane":
        number = ASKED.cpu if which == "cpu" else getattr(ASKED, f"{which}_id")
        place += words * int(ctl[MEMCTL.asked[number]])
    return ctl[place : place + words]


def _interpreted(name: str, text: Text, function: FunctionType) -> Callable[[np.ndarray], int]:
    arguments, counted = arguments_of(name, text), looks_at_turns(name, text)
    place = int(MEMCTL.own[OWN.turns])

    def asked(ctl: np.ndarray) -> int:
        given = told_to(name, text, ctl)
        turns = ctl[place : place + 1]
        if counted:
            turns[0] = 0
        return whole(function(*(given[argument] for argument in arguments), turns))

    return asked


def _guarded(function: Callable[[np.ndarray], int]) -> Callable[[np.ndarray], int]:
    def guarded(ctl: np.ndarray) -> int:
        try:
            return function(ctl)
        except MAY_RAISE:
            return FAILED

    return guarded


# ------------------------------------------------------------------------------------------------- into a lane


def set_addresses(policy: OwnPolicy, ctl: np.ndarray) -> None:
    """Where this process has the answers of a policy, and what they want to be told, for the lane of ``mem.ctl``."""
    for name, address in policy.address.items():
        question = QUESTION.names.index(name)
        ctl[MEMCTL.ask[question]] = address
        assert policy.text is not None
        ctl[MEMCTL.tells[question]] = sum(_TELLS.get(each, 0) for each in arguments_of(name, policy.text))
        if DISABLE_JIT or ctl[MEMCTL.policy_failed]:
            ctl[MEMCTL.tells[question]] |= TELLS_ALL


def install(policy: OwnPolicy, ctl: np.ndarray, cpus: int, caches: int, slabs: int) -> np.ndarray:
    """``mem.ctl`` of a lane with the policy's answers and words of state, int64[MEMCTL.width + words].

    ``slabs``: records that the lane has room for; state of more is that of a larger lane.
    """
    larger = np.zeros(len(ctl) + policy.words(cpus, caches, slabs), np.int64)
    larger[: len(ctl)] = ctl
    set_addresses(policy, larger)
    place = len(ctl)
    for name, count in zip(STATES, (1, cpus, caches, slabs), strict=True):
        words = len(policy.state[name])
        larger[MEMCTL.own[getattr(OWN, name)]] = place
        if name != "lane":
            larger[MEMCTL.own[getattr(OWN, f"{name}_words")]] = words
        place += count * words
    for name, bit in (("next_slab", MATCH_NEXT), ("free_to", MATCH_FREE_TO)):
        larger[MEMCTL.slab_match] |= bit if name in policy.address else 0
    return larger


def ask_by_slab(policy: OwnPolicy, ctl: np.ndarray) -> None:
    """Entitlement is asked slab by slab on slow paths, as by kernels since 3.6."""
    if "entitlement" in policy.address:
        ctl[MEMCTL.slab_match] |= MATCH_ENTITLEMENT


assert set(QUESTION.names) | {"merge"} == set(QUESTIONS)
assert all(hasattr(ASKED, f"{record}_{name}") for record, names in RECORDS.items() for name in names)
assert all(hasattr(ASKED, name) for name in REQUEST)
