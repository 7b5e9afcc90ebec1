"""``fastalloc policy check`` of an allocator: interpreted and compiled on generated operations, every object and page
accounted for."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastalloc.errors import told
from fastalloc.own import memory as om
from fastalloc.own.allocator import OwnAllocator, interpreted_again, own_allocator, why_wrong
from fastalloc.own.compiled import told_with_line
from fastalloc.own.memory import CACHE_COUNT, ZONE_CTL
from fastalloc.own.plain_python import MAY_RAISE
from fastalloc.verify.own.check import Checked, Fault
from fastalloc.verify.own.operations import (
    CACHES,
    CPUS,
    LONG,
    LONG_SEED,
    MASKS,
    TASKS,
    Operation,
    generated,
    smallest,
    with_bulk,
    with_tasks,
)

PAGES = 256
SEEDS, LENGTHS = 12, (80, 400)
NAME = "of its own"  # of its kernel
CHANGES = "addresses change from one execution of the file to the next"
MOST_S, LATE_S = 3.5, 0.4  # of CPU time to make a sequence small, and one that shows late
Functions = Mapping[str, Callable[..., Any]]


class Setting(NamedTuple):
    """Bytes of an object of each cache, and pages that may be held: with few some are refused."""

    sizes: tuple[int, ...]
    limit: int


SIZES = (96, 520, 1024)
LARGE = (96, 5000, 1024)  # of an allocator that takes more than single pages
LIMITS = (40, 12)


class Done(NamedTuple):
    """What came of a sequence: what is wrong ("" nothing), how many operations were done, and the addresses given."""

    wrong: str
    done: int
    addresses: list[int]


def check_allocator(source: str, where: str, parameters: Mapping[str, int], budget_s: float) -> Checked:
    """Look for faults of an allocator for ``budget_s`` of CPU time at most; the same ones for the same text
    where that is enough.

    Raises:
        InputError: the text is no allocator.
    """
    allocator = own_allocator(source, where, parameters)
    plain = allocator.interpreted
    tried: list[tuple[list[Operation], Setting, Done]] = []
    begun, done = time.process_time(), 0
    for seed in range(SEEDS):
        if time.process_time() - begun > budget_s / 2:
            break
        operations, setting = _generated(seed, LENGTHS[seed % 2], allocator), _setting(seed, allocator)
        done += len(operations)
        found = run(operations, allocator, plain, setting)
        if found.wrong:
            return Checked([_smallest(operations, found, allocator, plain, setting)], [NAME], done, {})
        tried.append((operations, setting, found))
    again = interpreted_again(allocator)
    for operations, setting, found in tried[:2]:
        if run(operations, allocator, again, setting) != found:
            return Checked([Fault(f"{where}: {CHANGES}", NAME)], [NAME], done, {})
    compiled = allocator.compiled
    _compile(allocator)
    begun = time.process_time()
    for operations, setting, found in tried:
        if time.process_time() - begun > budget_s / 2:
            break
        other = run(operations, allocator, compiled, setting)
        if other.wrong:
            return Checked([_smallest(operations, other, allocator, compiled, setting)], [NAME], done, {})
        if other != found:
            return Checked([_differing(operations, allocator, setting)], [NAME], done, {})
    if time.process_time() - begun < budget_s / 2:
        operations, setting = _generated(LONG_SEED, LONG, allocator), _setting(LONG_SEED, allocator)
        done += len(operations)
        found = run(operations, allocator, compiled, setting)
        if found.wrong:
            return Checked([_smallest(operations, found, allocator, compiled, setting)], [NAME], done, {})
    return Checked([], [NAME], done, {})


def _generated(seed: int, count: int, allocator: OwnAllocator) -> list[Operation]:
    """Operations with what the file tells apart: bulk calls, tasks."""
    operations = generated(seed, count, pools=False)
    bulk = {"alloc_bulk", "free_bulk"} & set(allocator.compiled)
    operations = with_bulk(operations, seed) if bulk else operations
    return with_tasks(operations, seed) if allocator.text.asks_current else operations


def _setting(seed: int, allocator: OwnAllocator) -> Setting:
    large = allocator.text.takes_orders and seed // 2 % 2 == 1
    return Setting(LARGE if large else SIZES, LIMITS[seed % 2])


def _compile(allocator: OwnAllocator) -> None:
    """Compile every function outside of the time."""
    run([Operation("alloc", 0, 0, 0, "GFP_KERNEL", "", 0, 0)], allocator, allocator.compiled, _setting(0, allocator))


def _smallest(
    operations: list[Operation], first: Done, allocator: OwnAllocator, functions: Functions, setting: Setting
) -> Fault:
    """A fault with the smallest sequence that shows it."""
    kind = _kind(first.wrong)
    seconds = MOST_S if first.done <= 2 * max(LENGTHS) else LATE_S
    for limit in LIMITS:
        tried = setting._replace(limit=limit)

        def fails(part: list[Operation], tried: Setting = tried) -> bool:
            return _kind(run(part, allocator, functions, tried).wrong) == kind

        if fails(operations[: first.done]):
            small, whole = smallest(operations[: first.done], fails, seconds=seconds)
            return Fault(run(small, allocator, functions, tried).wrong, NAME, tuple(small), whole)
    return Fault(first.wrong, NAME, tuple(operations), False)


def _differing(operations: list[Operation], allocator: OwnAllocator, setting: Setting) -> Fault:
    """That machine code does otherwise than Python."""

    def differs(part: list[Operation]) -> bool:
        plain, compiled = (run(part, allocator, each, setting) for each in (allocator.interpreted, allocator.compiled))
        return plain != compiled

    small, whole = smallest(operations, differs, seconds=MOST_S)
    told_now = f"{allocator.text.text.where}: compiled it gives other addresses than interpreted"
    return Fault(told_now, NAME, tuple(small), whole)


def _kind(wrong: str) -> str:
    """What a fault has in common with itself in another sequence: the words, without the numbers."""
    return "".join(letter for letter in wrong if not letter.isdigit())


def run(operations: Sequence[Operation], allocator: OwnAllocator, functions: Functions, setting: Setting) -> Done:
    """Run a sequence on a machine of its own; at its end every object is freed and every cache shrunk."""
    test = _Machine(allocator, functions, setting)
    done = 0
    try:
        for c, size in enumerate(setting.sizes):
            test.call("create", c, size)
        for op in operations:
            done += 1
            test.zone.ctl[ZONE_CTL.task] = op.task
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
    def __init__(self, allocator: OwnAllocator, functions: Functions, setting: Setting) -> None:
        self.text, self.sizes = allocator.text.text, setting.sizes
        self.functions = functions
        self.heap = allocator.arrays(CACHES, CPUS, PAGES, TASKS)
        self.zone = om.new_zone(PAGES, CACHES, setting.limit)
        self.turns = np.zeros(1, np.int64)
        self.out: dict[int, tuple[int, int]] = {}  # cache and address by slot
        self.addresses: list[int] = []

    def wrong(self, function: str, why: str) -> _WrongError:
        return _WrongError(f"{self.text.where}: {function}, line {self.text.functions[function].lineno}: {why}")

    def call(self, name: str, c: int, *rest: Any) -> int:
        """Call a function of the allocator; what it raises, and what it does to the pages, is looked at."""
        self.turns[0] = 0
        self.zone.ctl[[ZONE_CTL.cache, ZONE_CTL.taken]] = c, 0
        arguments = (self.heap, c, *rest) if name == "create" else (self.heap, self.zone, c, *rest)
        try:
            given = self.functions[name](*arguments, self.turns)
            self.turns[0] = 0
            held = int(self.functions["pages_held"](self.heap, self.turns))
        except MAY_RAISE as error:
            line = told_with_line(error, self.text.where)
            raise self.wrong(name, f"raised {line or told(error)}") from None
        if self.zone.ctl[ZONE_CTL.bad]:
            page = om.bad_page(int(self.zone.ctl[ZONE_CTL.bad]))
            raise self.wrong(name, f"page {page} was given back that is not held so, or has an object in use")
        if held != self.zone.ctl[ZONE_CTL.held]:
            raise self.wrong("pages_held", f"says {held}, but {int(self.zone.ctl[ZONE_CTL.held])} pages are held")
        return -1 if given is None else int(given)

    def operation(self, op: Operation) -> None:
        if op.kind == "alloc" and op.slot not in self.out:
            address = self.call("alloc", op.cache, op.cpu, MASKS[op.mask])
            self.addresses.append(address)
            if address == om.NOTHING:
                if self.zone.ctl[ZONE_CTL.held] == 0:
                    raise self.wrong("alloc", "was refused although no page is held")
                return
            self.enter("alloc", op, op.slot, address)
        elif op.kind == "bulk alloc" and op.slot not in self.out:
            self.bulk_alloc(op)
        elif op.kind == "bulk free" and op.slot in self.out:
            self.bulk_free(op)
        elif op.kind == "free" and op.slot in self.out:
            self.free(op.slot, op.cpu)
        elif op.kind == "shrink":
            self.call("shrink", op.cache)
        elif op.kind == "flush" and "flush" in self.functions:
            self.call("flush", op.cache, op.cpu)

    def enter(self, function: str, op: Operation, slot: int, address: int) -> None:
        code = int(om.note_object(self.zone, address, self.sizes[op.cache], op.cache))
        if code != om.SOUND:
            raise self.wrong(function, why_wrong(code, address, slot))
        self.out[slot] = op.cache, address

    def bulk_alloc(self, op: Operation) -> None:
        """All objects or none; one by one where the file has no alloc_bulk."""
        if "alloc_bulk" not in self.functions:
            for i in range(op.objects):
                self.operation(op._replace(kind="alloc", slot=op.slot + i))
            return
        into = np.full(op.objects, -1, np.int64)
        given = self.call("alloc_bulk", op.cache, op.cpu, MASKS[op.mask], op.objects, into)
        self.addresses += into.tolist()
        if given not in (0, op.objects):
            raise self.wrong("alloc_bulk", why_wrong(om.PART, given, op.objects))
        for i in range(given):
            self.enter("alloc_bulk", op, op.slot + i, int(into[i]))

    def bulk_free(self, op: Operation) -> None:
        slots = [slot for slot in range(op.slot, op.slot + op.objects) if slot in self.out]
        if "free_bulk" not in self.functions:
            for slot in slots:
                self.free(slot, op.cpu)
            return
        held = [self.out.pop(slot) for slot in slots]
        for cache, address in held:
            om.forget_object(self.zone, address, self.sizes[cache])
        addresses = np.array([address for _, address in held], np.int64)
        self.call("free_bulk", op.cache, op.cpu, len(held), addresses)

    def free(self, slot: int, cpu: int) -> None:
        cache, address = self.out.pop(slot)
        om.forget_object(self.zone, address, self.sizes[cache])
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
