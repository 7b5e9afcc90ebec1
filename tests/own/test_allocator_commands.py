"""An allocator of one's own wherever a policy may be named: sweep, rerun, rare, frontier, rewind, time; its rows are
those of ``run``, its text is the one that a dataset holds."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.verify.own.template import allocator_template

MORE = 'more = parameter("more", 0, 0, 2, "order above the smallest")\n'
BUDDY = (Path(__file__).parents[2] / "docs" / "own" / "buddy_only.py").read_text(encoding="utf-8")
# A text that is compiled quickly.
SMALL = BUDDY.replace("import NOTHING,", "import NOTHING, parameter,").replace("\nARRAYS", f"\n{MORE}\nARRAYS")
SMALL = SMALL.replace("    order = 0\n", "    order = more\n")
OWN = (
    allocator_template("mine")
    .replace("put_slot, slow,", "parameter, put_slot, slow,")
    .replace("\n# Rows and columns", f"\n{MORE}\n# Rows and columns")
    .replace("order_of(size)", "more + order_of(size)")
    .replace("order_of(heap.size[c, 0])", "more + order_of(heap.size[c, 0])")
    .replace("4096 << more + order_of(size)", "4096 << (more + order_of(size))")
    .replace("1 << more + order_of(size)", "1 << (more + order_of(size))")
)
FAILS = OWN.replace("        give_pages(zone, page, order)\n", "        pass\n")
LOSES = OWN.replace("heap.held[0, 0] -= 1 << order\n        give_pages(zone, page, order)", "pass")
SWEEP = """
name = "own"
scenario = "swap-livelock-34m"
policies = ["mine.py", "slab"]
lanes = 2
[axes]
"policy.more" = [0, 1]
[set]
"run.duration_s" = 1
"""
SHORT = ("--lanes", 2, "--seconds", 1)


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SMALL)
    Path("s.toml").write_text(SWEEP)
    return tmp_path


@pytest.fixture
def slabs(here):
    """With an allocator that puts several objects in a page."""
    Path("mine.py").write_text(OWN)
    return here


def lanes_of(folder, *filters):
    """The metrics of the lanes of a dataset, by lane."""
    runs = pl.read_parquet(Path(folder, "runs", "**", "*.parquet")).filter(*filters).sort("id")
    return runs.select("lane", *METRIC.names).rows()


def test_a_sweep_gives_the_rows_of_run_and_keeps_the_text(here, fastalloc, monkeypatch):
    refused = fastalloc("sweep", "s.toml", "--out", "d")
    assert refused.code == 2
    assert "lines of Python (SHA-256" in refused.err
    assert fastalloc("sweep", "s.toml", "--out", "d", "--trust").code == 0
    monkeypatch.setenv("FASTALLOC_TRUST", "0")
    points = (
        pl.read_parquet("d/runs/**/*.parquet").group_by("variant", "policy.more").len().sort("policy.more", "variant")
    )
    assert points.rows() == [("slab", None, 2), ("mine", 0, 2), ("mine", 1, 2)]
    for more in (0, 1):
        asked = ("run", "swap-livelock-34m", "--policy", "mine.py", "--set", f"policy.more={more}", "--variant", "rc8")
        assert fastalloc(*asked, *SHORT, "--out", f"run{more}").code == 0
        assert lanes_of("d", pl.col("variant") == "mine", pl.col("policy.more") == more) == lanes_of(f"run{more}")
    assert lanes_of("run0") != lanes_of("run1")
    manifest = json.loads(Path("d/manifest.json").read_text())
    told = {each["name"]: each for each in manifest["variants"]}
    assert told["mine"]["own_policy"] == {
        "file": "mine.py",
        "sha256": hashlib.sha256(SMALL.encode()).hexdigest(),
        "parameters": {},
    }
    assert told["mine"]["rules"].startswith("allocator of mine.py")
    assert "own_policy" not in told["slab"]
    assert [each["set"].get("policy.questions") for each in manifest["scenario"]["variants"]] == [SMALL, None]
    number = pl.read_parquet("d/runs/**/*.parquet").filter(pl.col("policy.more") == 1)["id"][0]
    Path("mine.py").unlink()
    assert "policy.questions" in fastalloc("rerun", "d", number).err
    again = fastalloc("rerun", "d", number, "--trust")
    assert again.code == 0, again.err


def test_a_sweep_goes_on_with_the_text_that_it_was_begun_with(here, fastalloc):
    assert fastalloc("sweep", "s.toml", "--out", "whole", "--trust").code == 0
    for shard, text in (("1/3", SMALL), ("2/3", SMALL.replace("order = more", "order = more + 1")), ("3/3", None)):
        Path("mine.py").unlink() if text is None else Path("mine.py").write_text(text)
        done = fastalloc("sweep", "s.toml", "--out", "d", "--trust", "--shard", shard)
        assert done.code == 0, done.err
        goes_on = "d goes on with the text that it was begun with"
        told = f"mine.py: no such file now; {goes_on}\n" if text is None else f"mine.py: {goes_on}, which is another\n"
        assert (told in done.err) == (text != SMALL)
    assert lanes_of("d") == lanes_of("whole")


def test_a_dataset_of_somebody_else_is_not_gone_on_with(here, fastalloc, monkeypatch):
    assert fastalloc("sweep", "s.toml", "--out", "d", "--trust", "--shard", "1/2").code == 0
    monkeypatch.setenv("FASTALLOC_TRUST", "0")
    manifest = Path("d/manifest.json")
    manifest.write_text(manifest.read_text().replace("import NOTHING", "import slabs, NOTHING"))
    done = fastalloc("sweep", "s.toml", "--out", "d", "--policies", "mine.py")
    assert done.code == 2
    assert "give --trust" in done.err


@pytest.mark.slow
def test_what_fails_ends_a_sweep_with_code_3(here, fastalloc):
    Path("mine.py").write_text(FAILS)
    done = fastalloc("sweep", "s.toml", "--out", "d", "--trust")
    assert done.code == 3
    assert "its allocator failed: mine.py: line " in done.err


@pytest.mark.slow
def test_rare_finds_what_an_allocator_lost(here, fastalloc):
    Path("mine.py").write_text(LOSES)
    done = fastalloc("rare", "swap-livelock-34m", *SHORT, "--startup", 0, "--policy", "mine.py")
    assert done.code == 3
    assert "its allocator failed: mine.py: line " in done.err
    assert "pages are held although every object was freed and every cache shrunk" in done.err


@pytest.mark.slow
@pytest.mark.usefixtures("slabs")
def test_rare_sees_the_lanes_of_run(fastalloc):
    asked = ("swap-livelock-34m", "--policy", "mine.py", "--seconds", 1, "--lanes", 2)
    assert fastalloc("run", *asked, "--variant", "rc8", "--out", "d").code == 0
    refusals = [row[1 + METRIC.sense_fail] > 0 for row in lanes_of("d")]
    done = fastalloc("rare", *asked, "--event", "stall>0.2", "--startup", 0, "--json", "--out", "r")
    assert done.code == 0, done.err
    stalls = [row[1 + METRIC.stall_ms] > 200 for row in lanes_of("d")]
    assert pl.read_parquet("r/lanes.parquet")["event"].to_list() == stalls, refusals
    ladder = fastalloc("rare", *asked, "--startup", 0, "--stress", "policy.more=0,1,2", "--json")
    assert [rung["setting"] for rung in json.loads(ladder.out)["ladder"]["rungs"]] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("slabs")
def test_the_frontier_and_a_rewind_take_it(fastalloc):
    where = ("--of", "policy.more", "--from", 0, "--to", 2, "--lanes", 2, "--most-lanes", 2, "--seconds", 6)
    done = fastalloc("frontier", "swap-livelock-34m", "--policies", "mine.py", *where)
    assert done.code == 1, done.err
    assert "policy.more = 2: 0 of 2 lanes livelocked" in done.err
    assert (
        fastalloc("run", "swap-livelock-34m", "--policy", "mine.py", "--variant", "rc8", *SHORT, "--out", "d").code == 0
    )
    assert fastalloc("rewind", "d", 1, "--to", "0.5s", "--steps", 1).code == 2
    rewound = fastalloc("rewind", "d", 1, "--to", "0.5s", "--steps", 1, "--trust")
    assert rewound.code == 0, rewound.err
    assert "rules: allocator of mine.py" in rewound.out


@pytest.mark.slow
@pytest.mark.usefixtures("slabs")
def test_time_tells_what_an_allocator_costs(fastalloc):
    done = fastalloc("policy", "time", "mine.py", "--set", "policy.more=1")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    costs = {line[0]: int(line[-1].replace(",", "")) for line in lines if line and line[-1].replace(",", "").isdigit()}
    assert list(costs) == ["mine.py", "slub", "cpu-partial", "sheaves", "7.3"]
    assert all(0 < each < 1_000_000 for each in costs.values())
    Path("fails.py").write_text(FAILS)
    failed = fastalloc("policy", "time", "fails.py")
    assert failed.code == 3
    assert failed.out == ""
    assert "fails.py: pages_held, line " in failed.err
    assert "; look with: fastalloc policy check fails.py" in failed.err
