"""``rare``, ``decided`` and ``rewind`` as they are typed."""

import json
import sys

import polars as pl
import pytest

from fastalloc.cli import rare as rare_command
from fastalloc.cli.main import main
from fastalloc.report.hazard import STARTUP_S
from fastalloc.scenario import trust


@pytest.fixture
def fastalloc(monkeypatch, capsys, tmp_path):
    """Runs ``fastalloc ARGUMENTS`` in an empty folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastalloc", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def one_line(done, words):
    code, _, err = done
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def stalled(fastalloc, tmp_path):
    """A dataset with a livelocked lane, and that lane's id."""
    code, _, err = fastalloc(
        "run",
        "swap-livelock-34m",
        "--variant",
        "rc8",
        "--lanes",
        24,
        "--set",
        "machine.min_free_kbytes=24",
        "--out",
        "d",
        "--json",
    )
    assert code == 0, err
    runs = pl.read_parquet(tmp_path / "d" / "runs" / "*.parquet")
    return runs.filter(pl.col("livelock_5s") == 1)["id"][0]


def test_a_livelock_rewound_and_decided(fastalloc, stalled, tmp_path):
    code, out, err = fastalloc(
        "rewind", "d", stalled, "--to", "0s-before-livelock", "--steps", 1, "--save", "lane.snapshot"
    )
    assert code == 0, err
    assert out.count("bio + scsi_sense_cache: ") == 2
    assert (tmp_path / "lane.snapshot").stat().st_size > 50_000
    code, out, err = fastalloc(
        "decided", "d", stalled, "--branches", 4, "--policy", "fix", "--json", "--chart", "curve.svg"
    )
    assert code == 0, err
    as_it_was, fixed = json.loads(out)
    assert as_it_was["chances"][-1]["events"] == 4
    assert (fixed["applied"], fixed["chances"][-1]["events"]) == ("fix", 0)
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")
    page = (tmp_path / "d" / "report.html").read_text()
    assert "When was it lost?" in page
    assert "fix applied then" in page
    assert fastalloc("dataset", "check", "d")[0] == 0
    asked = ["--branches", 4, "--no-page", "--give-back", "100ms-after-livelock"]
    code, out, err = fastalloc("decided", "d", stalled, *asked)
    assert code == 0, err
    assert "free it: none of 4 branches is lost" in out
    one_line(fastalloc("decided", "d", stalled, "--policy", "slab"), "must be there at boot")
    one_line(fastalloc("rewind", "d", stalled, "--to", "soon"), "--to: soon: expected 12.5s")
    one_line(fastalloc("rewind", "d", 99), "d: runs: no lane 99")


def test_a_rate_is_told_or_bounded(fastalloc):
    words = ["rare", "swap-livelock-34m", "--variant", "fix", "--seconds", 3, "--startup", 1, "--lanes", 8]
    code, out, err = fastalloc(*words)
    assert code == 0, err
    assert out.startswith("rules: SLUB of 2.6.25")
    assert "steady state: none in 0.000185 machine-days: below 16,177 a machine-day (95 %)" in out
    told = json.loads(fastalloc(*words, "--json")[1])
    assert (told["lanes"], told["steady"]["rate"]) == (8, None)
    long = "--startup: 20: must not be larger than"
    one_line(fastalloc(*words, "--seconds", 10, "--startup", 20), f"{long} --seconds (10)")
    one_line(fastalloc("rare", "swap-livelock-34m", "--startup", 20), f"{long} a lane, 15 s; give a larger --seconds")
    one_line(fastalloc("rare", "swap-livelock-34m", "--seconds", -1), "--seconds: -1: must be above 0")
    one_line(fastalloc("rare", "swap-livelock-34m", "--dask", "nowhere"), "--dask: nowhere: no scheduler there")
    assert rare_command.STARTUP_S == STARTUP_S
    one_line(fastalloc(*words, "--per", "year"), "--per: year: expected one of")
    one_line(fastalloc(*words, "--event", "oops"), "--event: oops: expected livelock")
    one_line(fastalloc(*words, "--stress", "machine.min_free_kbytes=1"), "three settings or more")
    one_line(fastalloc(*words, "--stress", "machine.kernel"), "--stress: machine.kernel: names no number")


def test_a_pilot_chooses_the_rungs_and_the_test_before_splitting_is_told(fastalloc, monkeypatch):
    for name, value in (("STATES", 4), ("CHILDREN", 4), ("PILOT", 8)):
        monkeypatch.setattr(f"fastalloc.rare.splitting.{name}", value)

    def chosen(share, asked, whole):
        assert (share(asked, 4)[1], asked, whole) == (4, 40, True)
        return [16.0, 20.0, 24.0]

    monkeypatch.setattr("fastalloc.rare.pilot.choose_rungs", chosen)
    words = ["swap-livelock-34m", "--variant", "rc8", "--seconds", 5, "--startup", 0, "--lanes", 24]
    asked = ["--set", "machine.min_free_kbytes=40", "--stress", "machine.min_free_kbytes"]
    code, out, err = fastalloc("rare", *words, *asked, "--splitting", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [rung["setting"] for rung in told["ladder"]["rungs"]] == [16, 20, 24]
    assert "pilot: machine.min_free_kbytes = 40: " in err
    assert told["splitting"]["words"].startswith("splitting: at supply < ")


def test_a_policy_of_one_s_own_has_a_rate(fastalloc, monkeypatch, tmp_path):
    monkeypatch.setenv(trust.TRUST, "0")
    (tmp_path / "mine.py").write_text(
        "SLACK = 2\n\n\ndef depth(who, zone):\n    return 1 if who == 5 and zone.free > SLACK else 0\n"
    )
    words = ["rare", "swap-livelock-34m", "--policy", "mine.py", "--seconds", 3, "--startup", 1, "--lanes", 8, "--json"]
    words += ["--out", "kept"]
    told = json.loads(fastalloc(*words)[1])
    assert told["lanes"] == 8
    (tmp_path / "mine.py").write_text("def depth(zone):\n    return zone.min\n")
    one_line(fastalloc(*words), "kept/rare.json: policy.questions: carries 5 lines of Python")
    code, out, err = fastalloc(*words, "--trust")
    assert (code, json.loads(out)) == (0, told)
    assert err == "mine.py: kept goes on with the text that it was begun with, which is another\n"
    one_line(fastalloc(*words, "--set", "policy.slack=3"), "policy.slack")
    (tmp_path / "mine.py").unlink()
    monkeypatch.setenv(trust.TRUST, "0")
    one_line(fastalloc(*words), "kept/rare.json: policy.questions: carries 5 lines of Python")
    code, out, err = fastalloc(*words, "--trust")
    assert (code, json.loads(out)) == (0, told)
    assert err == "mine.py: no such file now; kept goes on with the text that it was begun with\n"
    one_line(fastalloc(*words[:-1], "other"), "No such file")
    (tmp_path / "other.py").write_text(
        "from fastalloc.own import parameter\nkept = parameter('kept', 1, 0, 9, 'slabs')\n"
        "\n\ndef keep(cache):\n    return kept\n"
    )
    several = ["rare", "swap-livelock-34m", "--policies", "other.py,fix", "--seconds", 1, "--startup", 0, "--lanes", 2]
    told = json.loads(fastalloc(*several, "--set", "policy.kept=3", "--json")[1])
    assert [answer["policy"] for answer in told] == ["other.py", "fix"]
    one_line(fastalloc(*several, "--set", "policy.kpet=3"), "no parameter of its file (did you mean 'kept'?)")


def test_what_cannot_be_done_is_refused_before_a_lane_is_run(fastalloc, stalled):
    one_line(fastalloc("decided", "d", stalled, "--policy", "fx"), "--policy: fx: no such policy (did you mean 'fix'?)")
    one_line(fastalloc("decided", "d", stalled, "--set", "policy=fx"), "--set: policy: fx: no such policy")
    one_line(fastalloc("decided", "d", stalled, "--chart", "curve.gif"), "--chart: curve.gif: expected a name that")
    one_line(fastalloc("rewind", "d", stalled, "--step", "0ms"), "--step: 0ms: must be a length above 0")
    one_line(fastalloc("rewind", "d", stalled, "--step", "1s-before-livelock"), "must be a length above 0")
    one_line(fastalloc("rare", "swap-livelock-34m", "--out", "d"), "d: holds a dataset; name another folder")
