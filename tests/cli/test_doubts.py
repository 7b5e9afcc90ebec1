"""What a report rests on: one line above the table, in JSON and in the page, and exit code 1."""

import json
import shutil
from pathlib import Path

import pytest

from fastalloc.scenario import load_scenario
from fastalloc.store import DatasetWriter
from tests.fake_batch import fake_lane

D = Path("d")


def edit(**values):
    def spoil():
        file = D / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return spoil


def lose_a_shard():
    (D / "runs" / "fix-000000.parquet").unlink()


def lose_another_table():
    (D / "ledger" / "rc8-000000.parquet").unlink()


def swap_shards():
    one, other = D / "runs" / "fix-000000.parquet", D / "runs" / "rc8-000000.parquet"
    shutil.move(one, "x")
    shutil.move(other, one)
    shutil.move("x", other)


def fewer_lanes():
    file = D / "manifest.json"
    told = json.loads(file.read_text())
    told["variants"][0]["lanes"] = 1
    file.write_text(json.dumps(told))


BROKEN = {"id": 9, "state": "broken", "variant": "fix", "lane": 3, "tick": 7, "told": "lane 3 of fix at 1 s broke",
          "again": "fastalloc rerun d 9 --debug"}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset as a run leaves it."""
    path = tmp_path_factory.mktemp("doubts") / "d"
    scenario = load_scenario("swap-livelock").with_settings({"run.lanes": 3, "run.duration_s": 40})
    writer = DatasetWriter(path, scenario, ["rc8", "fix"], "fastalloc run swap-livelock")
    for name in ("rc8", "fix"):
        writer.start_variant(name)
        for lane in range(3):
            writer.add(fake_lane(scenario.variant(name), lane, 1))
    writer.close("complete", {"wall_s": 1.0, "cpus": 2})
    return path


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_a_shard, "missing"),
        (lose_another_table, "missing"),
        (swap_shards, "fix-000000.parquet"),
        (fewer_lanes, "rc8 has 1 of 3 lanes"),
        (edit(status="running"), "it is still running, or was killed"),
        (edit(status="failed", failed="lane 1 of fix: its policy failed"), "its policy failed"),
        (edit(status="\x1b[2Jfine"), "its status is"),
        (edit(seed=12), "another seed than the manifest"),
        (edit(model_digest="0" * 64), "another model_digest than the manifest"),
        (edit(broken=[BROKEN]), "lane 3 of fix at 1 s broke; again with: fastalloc rerun d 9 --debug"),
    ],
)
def test_one_line_in_json_page_and_on_stderr(fastalloc, monkeypatch, whole, spoil, words):
    monkeypatch.setenv("COLUMNS", "400")  # sentences fit a terminal
    shutil.copytree(whole, D)
    spoil()
    done = fastalloc("report", D, "--json")
    assert "\x1b" not in done.out + done.err
    assert done.code == 1, done.err
    assert any(words in doubt for doubt in json.loads(done.out)[0]["doubts"])
    line = done.err.splitlines()[0]
    assert line.startswith("rests on less than was asked: ")
    assert words in line
    assert "rests on less than was asked" in (D / "report.html").read_text()


def test_a_table_has_the_line_above_it(fastalloc, whole):
    shutil.copytree(whole, D)
    assert fastalloc("report", D).code == 0
    fewer_lanes()
    done = fastalloc("report", D)
    assert done.code == 1
    assert done.out.splitlines()[0] == "rests on less than was asked: rc8 has 1 of 3 lanes"


@pytest.mark.parametrize(
    "command", [("rerun", D, 0), ("rewind", D, 0), ("decided", D, 0, "--branches", 2)], ids=lambda told: told[0]
)
def test_a_lane_of_an_edited_manifest_is_sized_before_it_is_made(fastalloc, monkeypatch, whole, command):
    """Swap of 2**31 pages is refused as in a scenario of one's own."""
    monkeypatch.setenv("FASTALLOC_MEMORY", "1G")
    shutil.copytree(whole, D)
    told = json.loads((D / "manifest.json").read_text())["scenario"]
    told["machine"]["swap_pages"] = 1 << 31
    edit(scenario=told)()
    done = fastalloc(*command)
    assert done.code == 2
    assert done.out == ""
    assert "machine.swap_pages" in done.err
