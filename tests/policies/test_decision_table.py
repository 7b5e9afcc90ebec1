"""The decision table: what was expected of each remedy, row by row, beside what is measured.

A row is a line of the policies sheet's section I. What a preset says of itself (``fastalloc policies``) is what is
measured; where that is not what was expected, DIFFERS has it, and docs/policies.md the reason.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from fastalloc.kernels.alloc.state import DEPTH
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.scenario import load_policy, policy_names
from tests.policies.measured import LANES, guarantees, prevents, stuck
from tests.policies.test_closed_loop import results, total

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


class Expected(NamedTuple):
    """A row: links of the chain that break, and the verdict; None where the sheet has none."""

    policies: tuple[str, ...]
    links: tuple[int, ...]
    prevents: str | None
    guarantees: str


TABLE = {
    "C2, C3, F8": Expected(("fix", "consolidated", "nothing-more"), (6,), "no", "1"),
    "C4": Expected(("free_list-4",), (6,), "yes", "n"),
    "H10": Expected(("prealloc",), (5, 6), "yes", "n"),
    "B2, B3 sense, B3 both, B4, H7": Expected(
        ("ctor", "nomerge-sense", "nomerge-both", "slub_nomerge"), (2, 5), "statistically", "no"
    ),
    "B3 bio": Expected(("nomerge-bio",), (2,), "statistically", "no"),
    "B5, B6": Expected(("inline-sense", "tail-64-96", "tail-64-260", "tail-128-96", "tail-128-260"), (6,), None, "1"),
    "B7": Expected(("sense-260",), (2,), "statistically", "no"),
    "B8": Expected(("lazy-sense",), (6,), None, "1"),
    "C5": Expected(("sense-pool",), (6,), "no", "n"),
    "D2a, D2b": Expected(("mempool-keep-wait", "mempool-no-harder"), (2,), "statistically", "no"),
    "D2e": Expected(("mempool-no-timeout",), (), "no", "no"),
    "E1 full": Expected(("rank",), (2,), "yes", "no"),
    "E1 posted, E2, H5": Expected(("rank-posted", "no-watermarks", "pfmemalloc"), (), "no", "no"),
    "E3": Expected(("emergency-reserve", "reserve-tree"), (6,), "yes", "n"),
    "F2": Expected(("short-sense",), (), "statistically", "no"),
    "F2, bio as deep": Expected(("short-both",), (), "no", "no"),
    "F3, F4 as posted": Expected(("emergency-v1", "emergency-free-page", "emergency-v2"), (), "no", "no"),
    "F4 ideal": Expected(("emergency-ideal",), (6,), "yes", "n"),
    "F5": Expected(("spare-pages",), (6,), "statistically", "no"),
    "F5 with a quota": Expected(("spare-sense",), (6,), "yes", "n"),
    "F6": Expected(("write-gate",), (1,), "statistically", "no"),
    "A1": Expected(("slab",), (2,), "statistically", "no"),
    "A4": Expected(("slob",), (), "no", "no"),
    "H4": Expected(("cpu-partial",), (5,), "statistically", "no"),
    "H9": Expected(("sheaves",), (2,), "statistically", "no"),
    "H9 prefilled": Expected(("sheaves-prefilled",), (2,), "statistically", "n"),
    "H12": Expected(("reclaim-gate",), (1,), "statistically", "no"),
    "G4": Expected(("kblockd-memalloc",), (6,), "statistically", "no"),
}
# 96 machines leave these open, so 480 are run.
LONG = {
    "depth-31",
    "emergency-v2",
    "free_list-4",
    "high-bio",
    "hosts-96-260",
    "mempool-keep-wait",
    "mempool-no-harder",
    "mempool-polite",
    "mempool-pool-first",
    "mempool-wake-one",
    "min-partial",
    "no-watermarks",
    "pfmemalloc",
    "rank-posted",
    "sense-pool",
    "short-both",
    "slob",
    "watermarks-6.3",
}


def case(name):
    """A case of a test; of LONG it is run by `make test-slow`."""
    return pytest.param(name, id=name, marks=pytest.mark.slow if name in LONG else ())


ROWS = [pytest.param(policy, row, id=policy) for row in TABLE.values() for policy in row.policies]

# Measured instead, for a reason that the docs give.
STOCK = ("yes", "n")  # the free_list's own object keeps a slab of a cache that nobody else reaches
DIFFERS = {
    "free_list-4": ("no", "n"),
    **dict.fromkeys(("ctor", "nomerge-sense", "nomerge-both", "slub_nomerge", "sense-260", "slab", "sheaves"), STOCK),
    **dict.fromkeys(("inline-sense", "tail-64-96", "tail-64-260", "tail-128-96", "tail-128-260"), STOCK),
    "lazy-sense": ("statistically", "n"),
    "rank": ("no", "no"),
    **dict.fromkeys(("mempool-keep-wait", "mempool-no-harder"), ("no", "no")),
    "emergency-reserve": ("statistically", "no"),
    "reserve-tree": ("statistically", "no"),
    "short-both": ("statistically", "no"),
    "reclaim-gate": ("no", "no"),
    "kblockd-memalloc": ("no", "no"),
}
# Links that hold although the sheet has them broken.
LINKS_HOLD = {
    "ctor": {2},  # bios go on to take what other GFP_ATOMIC users of kmalloc-128 allocate
    "nomerge-sense": {2},
    "sense-260": {2},
    "mempool-keep-wait": {2},  # fewer machines fail; on those that do bios take as before
    "mempool-no-harder": {2},
    "rank": {2},
    "spare-pages": {6},
    "write-gate": {1},  # a tenth is left of it
    "reclaim-gate": {1},
    "kblockd-memalloc": {6},  # the few attempts of the softirq stay
}


@pytest.mark.parametrize("name", [case(name) for name in policy_names() if load_policy(name).section != "kernel"])
def test_a_preset_says_of_itself_what_is_measured(name):
    verdict = load_policy(name).verdict
    assert (verdict.prevents, verdict.guarantees) == (prevents(name), guarantees(name))


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_the_decision_table(name, row):
    """What is measured is what the table says, or stands above and in the docs."""
    verdict = load_policy(name).verdict
    expected = (row.prevents or verdict.prevents, row.guarantees)
    assert (verdict.prevents, verdict.guarantees) == DIFFERS.get(name, expected)
    if name in DIFFERS:
        assert DIFFERS[name] != expected
        assert f"`{name}`" in PAGE.read_text(encoding="utf-8").split("## The decision table")[1].split("\n## ")[0]


def shown(policies):
    """How much of each link the lanes show, as ``report.board.chain_shown`` counts it; a queue of 128 requests."""
    deep = [DEPTH.high, DEPTH.atomic, DEPTH.short, DEPTH.none]
    found = results(policies)
    most = METRIC.max_writeback
    return [
        total(policies, "noise_failures"),
        sum(int(result.ledger[:, deep, WHO.bio].sum()) for result in found),
        sum(max(0, int(result.metrics[most]) - 128) for result in found),
        total(policies, "reclaimers_stuck"),
        total(policies, "sense_fail"),
        total(policies, "idle_refused"),
    ]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_the_links_of_the_chain_that_the_table_names_are_broken(name, row):
    assert all(shown("rc8"))
    broken = {link for link, amount in enumerate(shown(name), 1) if amount == 0}
    assert set(row.links) - broken == LINKS_HOLD.get(name, set())


def test_the_fix_breaks_the_last_link_and_no_other():
    """Sense allocations go on to fail, bios to rob and reclaimers to sleep; only the device is never left idle."""
    assert [link for link, amount in enumerate(shown("fix"), 1) if amount == 0] == [6]


@pytest.mark.parametrize("reserve", ["emergency-reserve", "reserve-tree"])
def test_a_reserve_holds_when_the_slabs_that_it_buys_are_kept_for_it(reserve):
    """E3 needs H5 or E1 (who may take a slot of a slab) or B3 (a cache of its own); that is what the thread was about.
    Against PF_MEMALLOC, which may take those slots too, only a cache of its own helps."""
    every = list(LANES)
    assert len(stuck(reserve, "atomic")) >= 0.75 * len(LANES)
    for guard in ("pfmemalloc", "rank"):
        assert stuck(f"{reserve}+{guard}", "atomic") == []
        assert stuck(f"{reserve}+{guard}", "reclaim") == every
    assert stuck(f"{reserve}+nomerge-sense", "reclaim") == []
    assert stuck("pfmemalloc", "atomic")
    assert stuck("rank", "atomic", range(12))  # a lane in five, so four may all go on


def test_kblockd_with_memalloc_guarantees_nothing():
    """G4: pages without a watermark last until the adversary finds the rest of their slabs."""
    assert len(stuck("kblockd-memalloc", "atomic")) >= 0.75 * len(LANES)
    assert stuck("kblockd-memalloc+nomerge-sense", "reclaim") == []
