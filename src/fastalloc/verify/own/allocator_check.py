"""``fastalloc policy check`` of an allocator: interpreted and compiled on generated operations, every object and page
accounted for."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastalloc.errors import told
from fastalloc.own import memory as om
from fastalloc.own.allocator import OwnAllocator, own_allocator, why_wrong
from fastalloc.own.compiled import told_with_line
from fastalloc.own.memory import CACHE_COUNT, ZONE_CTL
from fastalloc.verify.own.check import Checked, Fault
from fastalloc.verify.own.operations import CACHES, CPUS, MASKS, Operation, generated, smallest

SIZES = (96, 520, 1024)  # bytes, of the caches
PAGES = 256
LIMIT = 40  # pages that may be held: few, so that some are refused
SEEDS, LENGTHS = 12, (80, 400)


class Done(NamedTuple):
    """What came of a sequence: what is wrong ("" nothing), how many operations were done, and the addresses given."""

    wrong: str
    done: int
    addresses: list[int]


def check_allocator(source: str, where: str, parameters: Mapping[str, int], budget_s: float) -> Checked:
    """Look for faults of an allocator for ``budget_s`` of CPU time at most; the same ones for the same text.

    Raises:
        InputError: the text is no allocator.
    """
    allocator = own_allocator(source, where, parameters)
    _compile(allocator)
    faults: list[Fault] = []
    begun, done = time.process_time(), 0
    for seed in range(SEEDS):
        if faults or time.process_time() - begun > budget_s:
            break
        operations = generated(seed, LENGTHS[seed % 2], pools=False)
        done += len(operations)
        fault = _fault(operations, allocator)
        if fault:
            faults.append(fault)
    return Checked(faults, ["of its own"], done, {})


def _compile(allocator: OwnAllocator) -> None:
    """Compile every function; what Numba refuses is refused here."""
    run([Operation("alloc", 0, 0, 0, "GFP_KERNEL", "", 0, 0)], allocator, allocator.compiled)


def _fault(operations: list[Operation], allocator: OwnAllocator) -> Fault | None:
    for functions, differs in ((allocator.interpreted, False), (allocator.compiled, True)):
        first = run(operations, allocator, functions)
        if differs and not first.wrong:
            first = _differing(operations, allocator, first)
        if not first.wrong:
            continue
        kind = _kind(first.wrong)

        def fails(part: list[Operation], functions: Any = functions, kind: str = kind) -> bool:
            return _kind(run(part, allocator, functions).wrong) == kind

        small = smallest(operations[: first.done], fails) if fails(operations[: first.done]) else operations
        told_now = run(small, allocator, functions).wrong or first.wrong
        return Fault(told_now, "of its own", tuple(small))
    return None


def _kind(wrong: str) -> str:
    """What a fault has in common with itself in another sequence: the words, without the numbers."""
    return "".join(letter for letter in wrong if not letter.isdigit())


def _differing(operations: list[Operation], allocator: OwnAllocator, compiled: Done) -> Done:
    plain = run(operations, allocator, allocator.interpreted)
    if plain.addresses == compiled.addresses:
        return compiled
    where = allocator.text.text.where
    return Done(f"{where}: compiled it gives other addresses than interpreted", len(operations), [])


def run(operations: Sequence[Operation], allocator: OwnAllocator, functions: Mapping[str, Callable[..., Any]]) -> Done:
    """Run a sequence on a machine of its own; at its end every object is freed and every cache shrunk."""
    test = _Machine(allocator, functions)
    done = 0
    try:
        for c, size in enumerate(SIZES):
            test.call("create", c, size)
        for op in operations:
            done += 1
            test.operation(op)
        for slot in list(test.out):
            test.free(slot, 0)
        for c in range(CACHES):
            test.call("shrink", c)
        test.nothing_held()
    except _WrongError as wrong:
        return Done(str(wrong), done, test.addresses)
    return Done("", done, test.addresses)


class _WrongError(Exception):
    pass


class _Machine:
    def __init__(self, allocator: OwnAllocator, functions: Mapping[str, Callable[..., Any]]) -> None:
        self.text = allocator.text.text
        self.functions = functions
        self.heap = allocator.arrays(CACHES, CPUS, PAGES)
        self.zone = om.new_zone(PAGES, CACHES, LIMIT)
        self.turns = np.zeros(1, np.int64)
        self.out: dict[int, tuple[int, int]] = {}  # cache and address by slot
        self.addresses: list[int] = []

    def wrong(self, function: str, why: str) -> _WrongError:
        return _WrongError(f"{self.text.where}: {function}, line {self.text.functions[function].lineno}: {why}")

    def call(self, name: str, c: int, *rest: int) -> int:
        """Call a function of the allocator; what it raises, and what it does to the pages, is looked at."""
        self.turns[0] = 0
        self.zone.ctl[[ZONE_CTL.cache, ZONE_CTL.taken]] = c, 0
        arguments = (self.heap, c, *rest) if name == "create" else (self.heap, self.zone, c, *rest)
        try:
            given = self.functions[name](*arguments, self.turns)
            self.turns[0] = 0
            held = int(self.functions["pages_held"](self.heap, self.turns))
        except Exception as error:
            line = told_with_line(error, self.text.where)
            raise self.wrong(name, f"raised {line or told(error)}") from None
        if self.zone.ctl[ZONE_CTL.bad]:
            page = int(self.zone.ctl[ZONE_CTL.bad]) - 1
            raise self.wrong(name, f"page {page} was given back that is not held so, or has an object in use")
        if held != self.zone.ctl[ZONE_CTL.held]:
            raise self.wrong("pages_held", f"says {held}, but {int(self.zone.ctl[ZONE_CTL.held])} pages are held")
        return -1 if given is None else int(given)

    def operation(self, op: Operation) -> None:
        if op.kind == "alloc" and op.slot not in self.out:
            address = self.call("alloc", op.cache, op.cpu, MASKS[op.mask])
            self.addresses.append(address)
            if address < 0:
                if self.zone.ctl[ZONE_CTL.held] == 0:
                    raise self.wrong("alloc", "was refused although no page is held")
                return
            code = int(om.note_object(self.zone, address, SIZES[op.cache], op.slot))
            if code != om.SOUND:
                raise self.wrong("alloc", why_wrong(code, address, op.slot))
            self.out[op.slot] = op.cache, address
        elif op.kind == "free" and op.slot in self.out:
            self.free(op.slot, op.cpu)
        elif op.kind == "shrink":
            self.call("shrink", op.cache)
        elif op.kind == "flush" and "flush" in self.functions:
            self.call("flush", op.cache, op.cpu)

    def free(self, slot: int, cpu: int) -> None:
        cache, address = self.out.pop(slot)
        om.forget_object(self.zone, address, SIZES[cache])
        self.call("free", cache, cpu, address)

    def nothing_held(self) -> None:
        held = int(self.zone.ctl[ZONE_CTL.held])
        if held:
            caches = [c for c in range(CACHES) if self.zone.counts[c, CACHE_COUNT.pages]]
            told_caches = ", ".join(map(str, caches))
            raise self.wrong(
                "free",
                f"{held} pages of cache {told_caches} are held although every object was freed and every cache shrunk: "
                "a page leaked, or an object was lost",
            )
