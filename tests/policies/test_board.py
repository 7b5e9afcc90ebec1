"""The board's arithmetic on hand-made lanes, and its front."""

from types import SimpleNamespace

import polars as pl

from fastalloc.report.board import board, pareto_front
from fastalloc.report.statistics import wilson_interval

LANES = {
    # policy: livelock_ms, pages, sense_fail, cmd_fail, free_list_used of each lane
    "rc8": [(9000, 100, 50, 1, 1), (7000, 200, 40, 0, 0), (0, 400, 2, 0, 0), (0, 400, 1, 0, 0)],
    "fix": [(0, 300, 5, 1, 6), (0, 400, 4, 0, 4), (6000, 400, 2, 0, 2), (0, 200, 1, 0, 1)],
    "ctor": [(0, 200, 0, 0, 0)] * 4,
}


def made():
    rows, ledger = [], []
    for number, (policy, lanes) in enumerate(LANES.items()):
        for lane, (ms, pages, sense, cmd, used) in enumerate(lanes):
            own = {"id": 4 * number + lane, "variant": policy, "lane": lane, "livelock_ms": ms, "stall_ms": ms + 500}
            own |= {"livelock_5s": int(ms > 5000), "pages_swapped_out": pages, "bios": pages, "reports": 2}
            rows.append(own | {"sense_fail": sense, "cmd_fail": cmd, "free_list_used": used, "max_slab_pages": 1000})
        depth = "low" if policy == "ctor" else "3/8 min"
        taken = {"buyer": "sense", "depth": depth, "taker": "bio", "objects": 31}
        ledger.append({"variant": policy} | taken)
    manifest = {"variants": [{"name": name} for name in [*LANES, "not-run"]]}
    return SimpleNamespace(runs=pl.LazyFrame(rows), ledger=pl.LazyFrame(ledger), manifest=manifest)


def test_rows_are_measured_against_the_first_on_the_same_lanes():
    rc8, fix, ctor = board(made())
    assert (rc8.policy, rc8.livelocked, rc8.difference, rc8.throughput) == ("rc8", 2, 0, 1)
    assert rc8.interval == wilson_interval(2, 4)
    assert (fix.livelocked, fix.difference) == (1, -0.25)
    assert fix.difference_interval[0] < -0.25 < fix.difference_interval[1]
    assert fix.throughput == 1.5  # of 3, 2, 1 and 0.5
    assert ctor.longest_stall_s == 0.5


def test_a_broken_guarantee_names_the_lane_with_the_longest_livelock():
    assert [row.broken_by for row in board(made())] == [0, 6, None]


def test_links_are_read_from_the_lanes():
    assert [row.links for row in board(made())] == [[], [6], [2, 5]]


def test_an_absent_metric_makes_no_column():
    assert set(board(made())[0].means) == {"sense_fail", "reports", "max_slab_pages"}


def test_slow_paths_and_locks_are_told_by_the_objects_that_moved():
    dataset = made()
    costs = {"slab_fast": 900, "slab_slow": 100, "slab_locks": 25, "policy.spare_pages": 4, "policy.emergency_pages": 0}
    dataset.runs = dataset.runs.with_columns(**{key: pl.lit(value) for key, value in costs.items()})
    means = board(dataset)[0].means
    assert (means["slow_per_1000"], means["locks_per_1000"], means["reserve_pages"]) == (100, 25, 4)


def test_no_point_of_the_front_is_beaten_and_every_other_is():
    points = [(0.5, 1.0), (0.2, 3.0), (0.2, 4.0), (0.0, 5.0), (0.6, 1.0), (0.2, 3.0)]
    assert pareto_front(points) == [0, 1, 3, 5]
