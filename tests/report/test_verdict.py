"""Statistics, verdicts, sentences and the ledger."""

import json

import polars as pl
import pytest

from fastalloc.report.board import board
from fastalloc.report.livelock_state import livelock_state
from fastalloc.report.pareto import pareto_charts, stands_still
from fastalloc.report.selection import choose_lanes, livelock_spans
from fastalloc.report.slab_ledger import slab_ledger
from fastalloc.report.statistics import wilson_interval
from fastalloc.report.terminal import share_60s
from fastalloc.report.verdict import _livelock_sentence, shows_60s, verdict_rows, verdicts


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, table I, method 3; and the closed forms at the ends
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_interval(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_nothing_and_its_mirror():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    low, high = wilson_interval(3, 17)
    assert wilson_interval(14, 17) == pytest.approx((1 - high, 1 - low))


def test_verdicts_follow_the_runs(dataset):
    rc8, fix, nomerge = verdicts(dataset)
    runs = dataset.runs.filter(pl.col("variant") == "rc8").collect()
    assert (rc8.variant, fix.variant, nomerge.variant) == ("rc8", "fix", "nomerge")
    assert rc8.livelocked_5s == runs["livelock_5s"].sum() > 0
    assert rc8.livelocked_5s_interval == wilson_interval(rc8.livelocked_5s, 12)
    assert rc8.longest_stall_s == runs["stall_ms"].max() / 1000
    assert rc8.swapped_out_per_s == pytest.approx(runs["pages_swapped_out"].sum() / (12 * 60))
    assert rc8.deepest == "no watermark"
    assert fix.livelocked_5s == 0
    assert json.loads(json.dumps(verdict_rows([rc8])))[0]["lanes"] == 12


def test_sentences_say_what_the_metrics_say(dataset):
    rc8, fix, nomerge = (verdict.sentence for verdict in verdicts(dataset))
    assert "lanes livelocked" in rc8
    assert "0 commands in flight, 8,123 pages under writeback" in rc8
    assert "247 sense failures a second" in rc8
    assert "the free_list served" in fix
    assert "No sense failure: sense buffers sit in slabs of their own" in nomerge


def test_an_empty_free_list_is_not_called_unused(dataset):
    verdict = verdicts(dataset)[0]
    rows = dataset.runs.filter(pl.col("variant") == "rc8").with_columns(free_list_used=pl.lit(0)).collect()
    assert "the command on the free_list was never used" in _livelock_sentence(verdict, rows)
    empty = _livelock_sentence(verdict, rows.with_columns(pl.lit(0).alias("host.free_list")))
    assert "never used" not in empty
    assert empty.endswith("while the free_list is empty.")


def test_the_lanes_shown_are_the_longest_livelock_and_its_twin(dataset):
    locked, cured = choose_lanes(dataset, verdicts(dataset))
    longest = dataset.runs.select(pl.max("livelock_ms")).collect().item()
    assert locked.row["livelock_ms"] == longest
    assert (cured.row["variant"], cured.row["lane"]) == ("fix", locked.row["lane"])
    assert locked.livelocks
    assert not cured.livelocks
    (begin, end), *_ = locked.livelocks
    assert end - begin == pytest.approx(longest / 1000)


def test_one_variant_alone_and_no_livelock(make_dataset):
    dataset = make_dataset(variants=("fix",), lanes=2)
    (lane,) = choose_lanes(dataset, verdicts(dataset))
    assert lane.row["variant"] == "fix"


def test_long_series_are_drawn_in_bins(make_dataset):
    dataset = make_dataset(variants=("rc8",), lanes=1, seconds=600)
    (lane,) = choose_lanes(dataset, verdicts(dataset))
    assert len(lane.series) <= 600
    stored = dataset.series.select(pl.min("free_dma32"), pl.max("writeback")).collect().row(0)
    assert (lane.series["free_dma32"].min(), lane.series["writeback"].max()) == stored
    last = dataset.series.select(pl.last("swapped_out")).collect().item()
    drawn = (lane.series["swapped_out"] * lane.series["t_ms"].diff().fill_null(0) / 1000).sum()
    first = 4 * 0  # the first bin has no growth
    assert drawn == pytest.approx(last, rel=0.01, abs=10 + first)


def test_spans_fall_back_to_the_metrics(make_dataset):
    dataset = make_dataset(variants=("rc8",), lanes=12)
    spans = livelock_spans(dataset, 12)
    locked = dataset.runs.filter(pl.col("livelock_5s") == 1).collect()
    assert sorted(spans["lane"]) == sorted(locked["lane"])
    lost = type(dataset)(**vars(dataset) | {"events": dataset.events.filter(pl.col("kind") == "none")})
    assert livelock_spans(lost, 12).sort("lane").equals(spans.sort("lane"))


def test_ledger_marks_who_lives_on_a_reserve_not_its_own(dataset):
    ledger = slab_ledger(dataset, "rc8")
    assert ledger.lanes == 12
    assert ledger.taken[0] == ("bio", "sense", "3/8 min", 12 * 1240)
    assert {(taker, owner) for taker, owner, _, _ in ledger.taken} == {("bio", "sense"), ("bio", "atomic noise")}
    depths = [depth for _, depth, _ in ledger.rows]
    assert depths == sorted(depths, key=dataset.manifest["depths"].index, reverse=True)
    assert "boot" not in [owner for owner, _, _ in ledger.rows], "what the boot allocated was there for all"
    own = ledger.rows[depths.index("3/4 min")]
    assert own[2][ledger.takers.index("bio")].deeper is False


def test_state_of_the_livelocked_lanes(dataset):
    state = {row.name: row for row in livelock_state(dataset, "rc8")}
    assert state["commands in flight"].high == 0
    assert state["bios outstanding"].median == state["pages under writeback"].median == 8123
    assert state["sense failures a second"].low == 1237 / 5
    assert livelock_state(dataset, "fix") == []


def test_machines_that_stand_still_are_on_no_front(dataset):
    """A machine that does nothing needs no memory."""
    *rows, last = board(dataset)
    rows.append(last._replace(throughput=(last.throughput or 1) + 0.1))  # made-up lanes of those that go on are equal
    ((_, spec, _),) = pareto_charts(rows)
    points = [row for layer in spec["layer"] for row in layer.get("data", {}).get("values", []) if "front" in row]
    assert {point["policy"]: point["front"] for point in points}["rc8"] is False
    still = rows[1]._replace(throughput=0.01, livelocked=0, means=rows[1].means | {"slab_peak_pages": 1.0})
    assert stands_still(still)
    assert not stands_still(rows[1])
    assert any(point["front"] for point in points)


def test_what_the_end_of_a_run_cuts_off_is_not_zero(make_dataset):
    """In 60 s no lane can show a livelock of more than 60 s, whatever happened to it."""
    short = verdicts(make_dataset(seconds=60))
    assert short[0].livelocked_60s == 0
    assert short[0].livelocked_60s_cut == short[0].livelocked_5s > 0
    assert short[0].livelocked_60s_interval[1] > 0.5
    assert not shows_60s(short)
    long = short[0]._replace(livelocked_60s=1, livelocked_60s_cut=3)
    assert shows_60s([long])
    assert share_60s(long).endswith("3 cut off")
    calm = [verdict._replace(sim_s=120, livelocked_60s_cut=0) for verdict in short]
    assert shows_60s(calm)
