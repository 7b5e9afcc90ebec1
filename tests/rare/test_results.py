"""What results/rare/ says of intervals, ladders and the study, and the same run again (slow)."""

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

RESULTS = Path(__file__).parents[2] / "results" / "rare"


def script(name, folder=RESULTS):
    spec = importlib.util.spec_from_file_location(f"results_{folder.name}_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not (RESULTS / "coverage.json").exists(), reason="results/rare/coverage.py was not run")
def test_intervals_of_real_lanes_covered_in_ninety_of_a_hundred():
    kept = json.loads((RESULTS / "coverage.json").read_text())
    assert kept["rows"][0]["share_of_lanes"] > 0.1
    for row in kept["rows"]:
        assert row["repetitions"] == 100
        assert min(row["share_covered"], row["rate_covered"]) >= 90


def test_a_ladder_foretells_its_last_decade_or_is_refused():
    kept = json.loads((RESULTS / "ladders.json").read_text())["ladders"]
    assert set(kept) <= set(script("ladders").LADDERS)
    for ladder in kept.values():
        assert ladder.get("used") or ladder["refused"]
        if ladder.get("used"):
            assert ladder["decade_p"] >= 0.05


def test_the_study_names_its_model_and_none_seen_is_a_bound():
    kept = pl.read_csv(RESULTS / "rates.csv")
    assert kept["model"].n_unique() == 1
    assert set(kept["policy"]) <= {"rc8", *script("study").REMEDIES}
    none = kept.filter(pl.col("events") == 0, pl.col("machine_days") > 0)
    assert none["days"].null_count() == len(none)
    assert (none["low"] > 0).all()


@pytest.mark.slow
def test_intervals_cover_once_more():
    module = script("coverage")
    for reserve, lanes in module.RUNGS.items():
        found = module.covered(reserve, lanes)
        print(found)
        assert min(found["share_covered"], found["rate_covered"]) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("name", ["the reserve of 34 MB", "the reserve of 512 MB", "the copiers of 34 MB"])
def test_ladders_once_more(name):
    module = script("ladders")
    found = module.told(module.LADDERS[name])
    print(found)
    if found.get("used"):
        log_ratios = [(rung["events"] / rung["lanes"], rung["low"], rung["high"]) for rung in found["foretold"]]
        assert found["decade_p"] >= 0.05, log_ratios
    else:
        assert "refused" in found


def test_each_cell_of_the_study_has_a_place_of_its_own():
    """No mark of the chart lies on another one, and every cell that has a figure is in one of the panels."""
    study = script("study")
    table, drawn = pl.read_csv(study.HERE / "rates.csv"), []
    for _, which, along, beside in study.PANELS:
        cells = study.shown_cells(table, which, along)
        places = cells.select("machine", along, *([beside] if beside else []))
        assert places.is_duplicated().sum() == 0
        drawn += cells.select("machine", "reserve", "traffic", "policy").rows()
    boots = {name: kb for name, (_, kb) in study.MACHINES.items()}
    told = table.filter(pl.col("low").is_not_null()).select("machine", "reserve", "traffic", "policy").rows()
    left = {row for row in told if row not in drawn}
    assert all(boots[row[0]] == row[1] and row[3] != "rc8" for row in left), (
        "the worst traffic under a remedy: the table"
    )
