"""``fastalloc policy check`` finds planted faults, each with file, line and a sequence from which nothing can go."""

import pytest

from fastalloc.kernels.lane.metrics import WHO
from fastalloc.own.compiled import own_policy
from fastalloc.verify.own.check import _Test, check
from fastalloc.verify.own.cost import costs
from fastalloc.verify.own.template import template

pytestmark = pytest.mark.usefixtures("still_clock")
FAULTS = {
    "a division": ("def keep(cache):\n    return 8 // abs(cache.partial - 2)\n", "mine.py: line 2: ZeroDivisionError"),
    "a range": ("def next_slab(slab):\n    return slab.free\n", "answered"),
    "a loop": ("def keep(cache):\n    while cache.partial:\n        pass\n    return 1\n", "line 2: OverflowError"),
    "an overflow": ("def depth(zone):\n    return zone.free << 60\n", "mine.py: line 2: OverflowError"),
    "another kernel's answer": ("def free_to(slab):\n    return 3\n", "here there is only TO_SLAB (1) and KERNEL"),
    "a state": (
        'STATE = {"lane": ["n"]}\ndef keep(state):\n    state.lane.n += 1\n    return 5 // abs(state.lane.n - 4)\n',
        "keep(state=(lane.n=4))",
    ),
    "chance": (
        "import itertools, sys\nsys.own_test = getattr(sys, 'own_test', 0) + 1\nX = sys.own_test\n"
        "def depth(zone):\n    return X\n",
        "mine.py: answers change from one execution of the file to the next",
    ),
    "merge": ("def merge(cache, other):\n    raise KeyError(cache)\n", "mine.py: merge(cache='names_cache'"),
}  # fmt: skip


@pytest.fixture
def few_sequences(monkeypatch):
    """Fewer of them, and none that is long, show most of what is planted."""
    monkeypatch.setattr("fastalloc.verify.own.check.SEEDS", 4)
    monkeypatch.setattr("fastalloc.verify.own.check.LONG", 600)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("few_sequences")
def test_planted_faults_are_found(name):
    source, words = FAULTS[name]
    own_policy(source, "mine.py")
    found = check(source, "mine.py", {})
    told = [line for fault in found.faults for line in fault.lines()]
    assert any(words in line for line in told), told
    assert all(line.startswith("mine.py: ") for fault in found.faults for line in fault.lines()[:1])


@pytest.mark.usefixtures("few_sequences")
def test_nothing_can_be_left_out_of_a_sequence():
    source = FAULTS["a state"][0]
    found = check(source, "mine.py", {})
    (fault,) = [fault for fault in found.faults if fault.sequence]
    test = _Test(own_policy(source, "mine.py"), {})
    kind = "keep raised"
    shows = [name for name, what, _ in test.faults(list(fault.sequence), fault.allocator, kind) if what]
    assert shows == [kind]
    for i in range(len(fault.sequence)):
        less = [*fault.sequence[:i], *fault.sequence[i + 1 :]]
        assert not any(what and name == kind for name, what, _ in test.faults(less, fault.allocator, kind))
    assert all(op.words() for op in fault.sequence)


@pytest.mark.usefixtures("few_sequences")
def test_the_template_has_no_fault_and_is_asked():
    found = check(template("mine"), "mine.py", {})
    assert not found.faults
    assert found.asked["keep"] > 0
    assert found.allocators == ["slub", "cpu-partial", "sheaves", "7.3"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def refill(sheaf):\n    return 0\n", "answered 0, not KERNEL (-1) or 1 to 6"),
        ("def fallback(gfp):\n    return gfp | 1 << 40\n", "not KERNEL (-1) or 0 to 4,294,967,295"),
    ],
)
def test_a_refill_of_nothing_and_a_mask_of_more_than_32_bits_are_out_of_range(monkeypatch, source, words):
    monkeypatch.setattr("fastalloc.verify.own.check.LONG", 600)
    monkeypatch.setattr("fastalloc.verify.own.check.smallest", lambda part, fails, seconds: (part, fails(part)))
    (fault,) = check(source, "mine.py", {}).faults
    assert words in fault.what


@pytest.mark.usefixtures("few_sequences")
def test_what_changes_from_one_execution_to_the_next_needs_no_sequence():
    (fault,) = check(FAULTS["chance"][0], "mine.py", {}).faults
    assert fault.lines() == ["mine.py: answers change from one execution of the file to the next"]


@pytest.mark.usefixtures("few_sequences")
def test_a_merge_that_changes_its_mind_is_found():
    source = "import itertools\nN = itertools.count()\ndef merge(cache, other):\n    return next(N) % 3 == 0\n"
    (fault,) = check(source, "mine.py", {}).faults
    assert fault.what == "mine.py: merge answers 'names_cache', 'names_cache' anew"


@pytest.mark.slow
def test_a_fault_that_shows_late_is_found():
    source = (
        'STATE = {"lane": ["n"]}\ndef next_slab(state):\n    state.lane.n += 1\n    return 1 // (3000 - state.lane.n)\n'
    )
    (fault,) = check(source, "mine.py", {}).faults
    assert "next_slab(state=(lane.n=3000))" in fault.what


def test_costs_are_told_for_each_kernel_that_asks():
    found = costs("def refill(sheaf):\n    return max(1, sheaf.capacity // 2)\n", "mine.py", {})
    assert [cost.allocator for cost in found] == ["sheaves", "7.3"]
    assert all(cost.asked > 0 and cost.plain_ns > 0 for cost in found)


@pytest.mark.usefixtures("few_sequences")
def test_who_is_told():
    source = f"def entitlement(who):\n    return min(1, 1 // abs(who - {WHO.sense}))\n"
    (fault,) = check(source, "mine.py", {}).faults
    assert f"entitlement(who={WHO.sense})" in fault.what
    assert fault.sequence[-1].who == WHO.sense
