"""What a policy failed at, with the state at that moment."""

from collections.abc import Mapping

import numpy as np

from fastalloc.kernels.alloc.policy_hooks import FAILED, LARGEST
from fastalloc.kernels.alloc.policy_record import QUESTION
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own.compiled import OwnPolicy, own_policy, told_to, told_with_line
from fastalloc.own.plain_python import MAY_RAISE
from fastalloc.own.questions import RECORDS

ANSWERS = ("", "TO_SLAB", "TO_NODE", "TO_HEAD")  # to free_to


def question_of(ctl: np.ndarray) -> str:
    """The question that the policy failed at."""
    return str(QUESTION.names[int(ctl[MEMCTL.policy_failed]) - 1])


def as_asked(ctl: np.ndarray) -> np.ndarray:
    """A copy of ``mem.ctl`` that tells what the question that failed was asked with."""
    ctl = ctl.copy()
    ctl[MEMCTL.asked[:]] = ctl[MEMCTL.policy_asked[:]]
    return ctl


def asked_in_words(policy: OwnPolicy, ctl: np.ndarray) -> str:
    """The call that failed, with what it was told and the state at that moment."""
    assert policy.text is not None
    name = question_of(ctl)
    given = told_to(name, policy.text, as_asked(ctl))
    return f"{name}({', '.join(_words(argument, value, policy.text.state) for argument, value in given.items())})"


def failure(source: str, where: str, parameters: Mapping[str, int], ctl: np.ndarray) -> str:
    """What went wrong in the lane of ``mem.ctl``, in a line: question, line of the file, what was told, and state.

    Compiled code says only that an exception was raised, so the policy is asked again, by Python.
    """
    policy = own_policy(source, where, parameters)
    assert policy.text is not None
    name = question_of(ctl)
    call = asked_in_words(policy, ctl)
    line = f"{policy.text.where}: line {policy.text.functions[name].lineno}"
    if ctl[MEMCTL.policy_given] != FAILED:
        return f"{line}: {call}: {out_of_range(ctl)}"
    try:
        policy.interpreted[name](as_asked(ctl))
    except MAY_RAISE as error:
        return f"{policy.text.where}: {told_with_line(error, policy.text.where)}: {call}"
    return f"{line}: {call}: it raised, at a state that the answer itself had changed by then"


def out_of_range(ctl: np.ndarray) -> str:
    """That an answer is none of those that there are."""
    given, most = int(ctl[MEMCTL.policy_given]), int(ctl[MEMCTL.policy_most])
    if most < 0:
        return f"answered {given}; here there is only {ANSWERS[-1 - most]} ({-1 - most}) and KERNEL"
    least = 1 if question_of(ctl) == "refill" else 0
    return f"answered {given}, not KERNEL (-1) or {least} {'on' if most >= LARGEST >> 1 else f'to {most:,}'}"


def _words(argument: str, value: object, state: Mapping[str, tuple[str, ...]]) -> str:
    if argument in RECORDS:
        fields = zip(RECORDS[argument], value, strict=True)  # type: ignore[call-overload]
        return f"{argument}=({', '.join(f'{name}={number}' for name, number in fields)})"
    if argument == "state":
        parts = [
            f"{which}.{word}={int(row[place])}"
            for which, words in state.items()
            for place, word in enumerate(words)
            if len(row := getattr(value, which))
        ]
        return f"state=({', '.join(parts)})"
    return f"{argument}={value}"
