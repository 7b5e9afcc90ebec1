"""The board's arithmetic on hand-made lanes, and its front."""

from types import SimpleNamespace

import polars as pl

from fastalloc.report.board import board, by_outcome, pareto_front
from fastalloc.report.pareto import labels
from fastalloc.report.statistics import wilson_interval

LANES = {
    # policy: livelock_ms, pages, sense_fail, idle_refused of each lane
    "rc8": [(9000, 100, 50, 40), (7000, 200, 40, 30), (0, 400, 2, 0), (0, 400, 1, 0)],
    "fix": [(0, 300, 5, 0), (0, 400, 3, 0), (6000, 400, 1, 0), (0, 200, 0, 0)],
    "ctor": [(0, 200, 0, 0)] * 4,
}
TITLES = {"rc8": "C1: as released", "fix": "C2: the fix", "ctor": "B2: a constructor", "not-run": "own: none"}


def made():
    rows, ledger = [], []
    for number, (policy, lanes) in enumerate(LANES.items()):
        for lane, (ms, pages, sense, idle) in enumerate(lanes):
            own = {"id": 4 * number + lane, "variant": policy, "lane": lane, "livelock_ms": ms, "stall_ms": ms + 500}
            own |= {"at_ms": 20_000 if ms > 5000 else -1, "sim_ms": 90_000}
            own |= {"livelock_5s": int(ms > 5000), "pages_swapped_out": pages, "reports": 2, "max_slab_pages": 1000}
            own |= {"queue.nr_requests": 128, "max_writeback": 100 if policy == "ctor" else 1000}
            own |= {"noise_failures": 10, "reclaimers_stuck": 0 if policy == "fix" and lane else 5}
            rows.append(own | {"sense_fail": sense, "idle_refused": idle})
        depth = "low" if policy == "ctor" else "3/8 min"
        taken = {"owner": "sense", "depth": depth, "taker": "bio", "objects": 31}
        ledger.append({"variant": policy} | taken)
    manifest = {"variants": [{"name": name, "title": title} for name, title in TITLES.items()]}
    return SimpleNamespace(runs=pl.LazyFrame(rows), ledger=pl.LazyFrame(ledger), manifest=manifest)


def test_rows_are_measured_against_the_first_on_the_same_lanes():
    rc8, fix, ctor = board(made())
    assert (rc8.policy, rc8.livelocked, rc8.difference, rc8.throughput) == ("rc8", 2, 0, 1)
    assert rc8.interval == wilson_interval(2, 4)
    assert (fix.livelocked, fix.difference) == (1, -0.25)
    assert fix.difference_interval[0] < -0.25 < fix.difference_interval[1]
    assert fix.throughput == 1.5  # of 3, 2, 1 and 0.5
    assert ctor.longest_stall_s == 0.5


def test_machines_on_which_a_sense_allocation_fails_are_counted():
    assert [row.sense_failing for row in board(made())] == [4, 3, 0]


def test_a_broken_guarantee_names_the_lane_with_the_longest_livelock():
    assert [row.broken_by for row in board(made())] == [0, 6, None]


def test_links_are_read_from_the_lanes():
    """Broken: no lane shows it although the baseline does; weakened: a tenth of the baseline at most."""
    assert [row.links for row in board(made())] == [[], [6], [2, 3, 5, 6]]
    assert [row.weakened for row in board(made())] == [[], [5], []]


def test_rows_stand_by_what_became_of_their_lanes():
    assert [(heading, [row.policy for row in rows]) for heading, rows in by_outcome(board(made()))] == [
        ("Never livelocked", ["ctor"]),
        ("No better than rc8", ["fix"]),  # one of four lanes instead of two says nothing
    ]


def test_an_absent_metric_makes_no_column():
    assert set(board(made())[0].means) == {"sense_fail", "reports", "slab_peak_pages"}


def test_slow_paths_and_locks_are_told_by_the_objects_that_moved():
    dataset = made()
    costs = {"slab_fast": 900, "slab_slow": 100, "slab_locks": 25, "policy_tests": 500, "policy_locks": 3}
    costs |= {"reserve_idle": 4096, "reserve_idle_end": 2048}
    dataset.runs = dataset.runs.with_columns(**{key: pl.lit(value) for key, value in costs.items()})
    means = board(dataset)[0].means
    assert [means[f"{key}_per_1000"] for key in ("slow", "locks", "extra_tests", "extra_locks")] == [100, 25, 500, 3]
    assert (means["reserve_idle_kb"], means["reserve_idle_end_kb"]) == (4, 2)


def test_no_point_of_the_front_is_beaten_and_every_other_is():
    points = [(0.5, 1.0), (0.2, 3.0), (0.2, 4.0), (0.0, 5.0), (0.6, 1.0), (0.2, 3.0)]
    assert pareto_front(points) == [0, 1, 3, 5]


def test_labels_overlap_neither_each_other_nor_a_point():
    places = [(20 + 7 * i, 0 if i % 3 else 80) for i in range(40)]
    placed = labels(places, [f"policy-{i}" for i in range(40)], {1, 2})
    assert len(placed) > 15
    assert not any(a.overlaps(b) for i, a in enumerate(placed) for b in placed[:i])
    assert not any(label.covers(place) for label in placed for place in places)


def test_points_that_lie_together_share_a_label():
    (label,) = labels([(100, 0), (101, 0), (100, 2)], ["a", "b", "c"], set())
    assert label.text == "c and 2 more"
