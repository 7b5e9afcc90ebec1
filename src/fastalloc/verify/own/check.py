"""``fastalloc policy check``: a policy of one's own, interpreted and compiled, on generated operations of every kernel
that asks it."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fastalloc.batch.caches import PATH_CACHES
from fastalloc.own.compiled import OwnPolicy, PolicyError, executed, own_policy, told_with_line
from fastalloc.own.failure import asked_in_words, out_of_range, question_of
from fastalloc.own.questions import QUESTIONS, SLUBS
from fastalloc.own.text import read_text
from fastalloc.verify.own.machine import Asked, Outcome, run
from fastalloc.verify.own.operations import LONG, LONG_SEED, Operation, generated, smallest

SEEDS = 12  # sequences of a kernel
LENGTHS = (80, 600)
BUDGET_S = 8.0


class Fault(NamedTuple):
    """What is wrong, file and line first; the sequence that shows it, on which kernel; whether all of it is needed."""

    what: str
    allocator: str = ""
    sequence: tuple[Operation, ...] = ()
    smallest: bool = True

    def lines(self, most: int = 1 << 30) -> list[str]:
        """For people, ``most`` operations at its begin and at its end."""
        if not self.sequence:
            return [self.what]
        which = "the smallest sequence" if self.smallest else "a sequence, perhaps not the smallest,"
        head = f"  {which} that shows it, allocator {self.allocator!r}:"
        told = [f"  {n + 1:>4}  {op.words()}" for n, op in enumerate(self.sequence)]
        left = len(told) - 2 * most
        told = [*told[:most], f"     ... {left:,} more, with --json", *told[-most:]] if left > 0 else told
        return [self.what, head, *told]


class Checked(NamedTuple):
    """``asked``: how often each question was asked on generated operations."""

    faults: list[Fault]
    allocators: list[str]
    operations: int
    asked: dict[str, int]


def check(source: str, where: str, parameters: Mapping[str, int], budget_s: float = BUDGET_S) -> Checked:
    """Look for faults of a policy for ``budget_s`` of CPU time at most; the same faults for the same text
    where that is enough.

    Raises:
        InputError: the text is no policy, see ``own_policy``.
    """
    read_text(source, where)  # an empty text is no policy here
    policy = own_policy(source, where, parameters)
    assert policy.text is not None
    faults = [fault for fault in (_merge_fault(policy),) if fault]
    test = _Test(policy, parameters)
    allocators = [each for each in SLUBS if all(each in QUESTIONS[name].allocators for name in policy.text.functions)]
    for allocator in allocators:
        run(generated(0, 1), allocator, policy, {})  # compiles, or loads, outside the time
    begun, done = time.process_time(), 0
    for seed in range(SEEDS if policy.text.asked else 0):
        for allocator in allocators:
            if time.process_time() - begun > budget_s:
                break
            operations = generated(seed, LENGTHS[seed % 2])
            done += len(operations)
            fault = test.fault(operations, allocator)
            if fault:
                faults.append(fault)
    many = generated(LONG_SEED, LONG) if policy.text.asked else []
    for allocator in allocators if many else []:
        if time.process_time() - begun > budget_s:
            break
        done += len(many)
        if test.fails_late(many, allocator):
            faults += [fault for fault in (test.fault(many, allocator),) if fault]
    return Checked(faults, allocators, done, dict(test.once.counts))


def _merge_fault(policy: OwnPolicy) -> Fault | None:
    if policy.merge is None:
        return None
    names = [request.name for request in PATH_CACHES]
    try:
        for cache in names:
            for other in names:
                if policy.merge(cache, other) != policy.merge(cache, other):
                    return Fault(f"{policy.text.where if policy.text else ''}: merge answers {cache!r}, {other!r} anew")
    except PolicyError as error:
        return Fault(str(error))
    return None


class _Test:
    """A policy as machine code, interpreted, and interpreted from another execution of its file. A question at which
    it failed is left to the kernel from then on, so that what is wrong with the others shows."""

    def __init__(self, policy: OwnPolicy, parameters: Mapping[str, int]) -> None:
        assert policy.text is not None
        self.policy, self.text = policy, policy.text
        self.once, self.again = Asked(policy.interpreted), Asked(executed(policy.text, parameters))
        self.left: set[str] = set()
        self.known: set[str] = set()

    def fault(self, operations: list[Operation], allocator: str) -> Fault | None:
        """The first fault of a sequence that is not known yet, made small."""
        kind, what, rows = next(
            (found for found in self.faults(operations, allocator) if found[1] and found[0] not in self.known),
            ("", "", 0),
        )
        if not what:
            return None
        self.known.add(kind)
        if kind == "random":
            self.known.add("compiled")  # another execution too
            return Fault(what)

        def fails(part: list[Operation]) -> bool:
            return any(each and name == kind for name, each, _ in self.faults(part, allocator, kind))

        small, whole = smallest(operations[:rows], fails, seconds=3.0 if rows <= max(LENGTHS) else 1.0)
        what = next(each for name, each, _ in self.faults(small, allocator, kind) if each and name == kind)
        self.left |= {kind.split()[0]} & set(self.text.functions)
        return Fault(what, allocator, tuple(small), whole)

    def faults(self, operations: list[Operation], allocator: str, kind: str = "") -> Iterator[tuple[str, str, int]]:
        """Kind of fault, what it is ("" none) and how many operations show it; no further than ``kind`` is told."""
        where = self.text.where
        first = self._run(operations, allocator, self.once)
        yield *self._failed(first), first.done
        if kind.split()[-1:] in (["raised"], ["range"]):
            return
        yield "conservation", f"{where}: {first.broken}" if first.broken else "", first.done
        second = self._run(operations, allocator, self.again)
        what = f"{where}: answers change from one execution of the file to the next"
        yield "random", what if first.answers != second.answers else "", first.done
        if kind == "random":
            return
        machine_code = self._run(operations, allocator, None)
        yield "compiled", _differ(first, machine_code, f"{where}: compiled it answers otherwise"), len(operations)

    def fails_late(self, operations: list[Operation], allocator: str) -> bool:
        """Whether machine code alone, which is quick, fails in a long sequence."""
        outcome = self._run(operations, allocator, None)
        return outcome.failed is not None or bool(outcome.broken)

    def _run(self, operations: list[Operation], allocator: str, asked: Asked | None) -> Outcome:
        address = asked.address if asked else self.policy.address
        kept = {name: place for name, place in address.items() if name not in self.left}
        return run(operations, allocator, self.policy, kept, asked)

    def _failed(self, outcome: Outcome) -> tuple[str, str]:
        if outcome.failed is None:
            return "", ""
        name = question_of(outcome.failed)
        call = asked_in_words(self.policy, outcome.failed)
        where = self.text.where
        if self.once.error is not None:
            return f"{name} raised", f"{where}: {told_with_line(self.once.error, where)}: {call}"
        line = self.text.functions[name].lineno
        return f"{name} range", f"{where}: line {line}: {call}: {out_of_range(outcome.failed)}"


def _differ(first: Outcome, second: Outcome, what: str) -> str:
    """``what`` and at which operation, where two runs of the same sequence are not the same."""
    if first.failed is None and second.failed is None and (first.rows, first.state) == (second.rows, second.state):
        return ""
    if first.failed is not None and second.failed is not None:
        return ""
    for mine, other in zip(first.rows, second.rows, strict=False):
        if mine != other:
            return f"{what}, seen at operation {mine[0] + 1}"
    return f"{what}, seen in its state"
