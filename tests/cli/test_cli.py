"""Commands, what they print and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastalloc import runner
from fastalloc.cli.events import event_lines
from fastalloc.kernels.lane.metrics import EVENT, METRIC
from fastalloc.plural import plural
from fastalloc.report.terminal import count
from fastalloc.scenario.machines import PRESETS
from fastalloc.store import open_dataset
from tests import fake_batch

SMALL = ("--lanes", 2, "--seconds", 40)


def one_line(outcome, *words):
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert str(word) in outcome.err


def test_run_leaves_dataset_and_report(drawn, fastalloc):
    done = fastalloc("run", "swap-livelock", *SMALL)
    assert done.code == 0
    assert "livelocked" in done.out
    assert "rc8: " in done.out
    dataset = open_dataset("out/swap-livelock")
    assert dataset.manifest["command"] == "fastalloc run swap-livelock --lanes 2 --seconds 40"
    assert dataset.manifest["status"] == "complete"
    assert len(dataset.runs.collect()) == 8
    assert '"mark"' in Path("out/swap-livelock/report.html").read_text()
    assert fastalloc("run", "swap-livelock", *SMALL).code == 0
    assert Path("out/swap-livelock-2/manifest.json").exists(), "the first dataset is left alone"


def test_json_is_all_there_is_on_stdout(fastalloc):
    done = fastalloc("run", "swap-livelock", *SMALL, "--json", "--variant", "fix", "--variant", "depth16")
    rows = json.loads(done.out)
    assert [row["variant"] for row in rows] == ["fix", "depth16"]
    assert rows[0]["livelocked_5s_interval"][0] == 0.0
    assert rows == json.loads(fastalloc("report", "out/swap-livelock", "--json").out)


def test_settings_reach_the_run_and_the_command(fastalloc):
    fastalloc(
        "run", "swap-livelock", *SMALL, "--variant", "rc8", "--seed", 7, "--set", "workload.copiers=3", "--out", "d"
    )
    dataset = open_dataset("d")
    row = dataset.runs.collect().row(0, named=True)
    assert (row["workload.copiers"], row["seed"], row["run.duration_s"]) == (3, 7, 40.0)
    words = dataset.manifest["command"].removeprefix("fastalloc ").split()
    fastalloc(*words, "--out", "again")
    for shard in Path("d").rglob("*.parquet"):
        assert shard.read_bytes() == Path("again", *shard.parts[1:]).read_bytes()


def test_text_settings_need_no_quotes(fastalloc):
    fastalloc("run", "swap-livelock", *SMALL, "--variant", "rc8", "--set", "policy.command_rule=fix", "--out", "d")
    assert open_dataset("d").runs.collect()["policy.command_rule"].to_list() == ["fix", "fix"]


def test_bad_input_is_one_line_and_code_2(fastalloc, tmp_path):
    one_line(fastalloc("run", "no-such"), "no-such", "no such scenario")
    one_line(fastalloc("run", "swap-livelock", "--variant", "rc9"), "variants", "no variant 'rc9'")
    one_line(fastalloc("run", "swap-livelock", "--set", "queue.x=3"), "--set: queue.x: unknown key")
    one_line(fastalloc("run", "swap-livelock", "--set", "queue"), "--set", "must be key=value")
    one_line(fastalloc("run", "swap-livelock", "--seconds", "-1"), "--seconds: -1", "above 0")
    bad = tmp_path / "bad.toml"
    bad.write_text((PRESETS / "swap-livelock.toml").read_text().replace("iops = 100", "iops = -100"))
    one_line(fastalloc("run", bad), bad, "disk.iops", "-100")
    one_line(fastalloc("report", "none"), "none: no such dataset")
    one_line(fastalloc("rerun", "none", 0), "none: no such dataset")
    one_line(fastalloc("machine", "import", "none"), "none: no such file or folder")
    assert not Path("out").exists()


def test_nothing_written_is_lost(fastalloc):
    fastalloc("run", "swap-livelock", *SMALL, "--out", "d")
    before = {path: path.read_bytes() for path in Path("d").rglob("*") if path.is_file()}
    one_line(fastalloc("run", "swap-livelock", *SMALL, "--out", "d"), "d: holds a dataset already")
    shard = Path("d/ledger/rc8-000000.parquet")
    shard.write_bytes(b"PAR1")
    one_line(fastalloc("report", "d"), shard, "unreadable Parquet")
    before.pop(shard)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_folder_with_other_files_is_left_alone(fastalloc):
    fastalloc("init", "mine")
    before = {path: path.read_bytes() for path in Path("mine").iterdir()}
    done = fastalloc("run", "mine/scenario.toml", "--lanes", 1, "--out", "mine")
    one_line(done, "mine: holds other files (scenario.schema.json, ...); name another folder, or an empty one")
    assert {path: path.read_bytes() for path in Path("mine").iterdir()} == before
    one_line(fastalloc("init", "mine/scenario.toml/x"), "mine/scenario.toml/x: cannot be written: Not a directory")


FX = "fx: no such policy (did you mean 'fix'?); `fastalloc policies` lists them\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run swap-livelock --policy fx", f"--policy: {FX}"),
        ("run swap-livelock --policies rc8,fx", f"--policies: {FX}"),
        ("run swap-livelock --set policy=fx", f"--set: policy: {FX}"),
        ("compare swap-livelock --policies fx", f"--policies: {FX}"),
        ("frontier swap-livelock --of disk.iops --policies fx", f"--policies: {FX}"),
        ("reserve linux-2.6.25-rc8-512m --burst pages=1,every_ms=9 --policy fx", f"--policy: {FX}"),
        ("reserve swap-livelock --policies fx", f"--policies: {FX}"),
        ("rare swap-livelock --policy fx", f"--policy: {FX}"),
        ("rare swap-livelock --policies fx,fix", f"--policies: {FX}"),
        ("sweep sweep.toml --policies fx --dry-run", f"--policies: {FX}"),
        ("sweep wrong.toml --dry-run", f"wrong.toml: policies: {FX}"),
        (
            "run swap-livelock --set machine=linux-2.6.25-rc8-51",
            "--set: machine: 'linux-2.6.25-rc8-51' is neither a file nor one of linux-2.6.25-rc8-256m, "
            "linux-2.6.25-rc8-512m (did you mean 'linux-2.6.25-rc8-512m'?)\n",
        ),
    ],
)
def test_a_name_that_there_is_not_is_told_by_its_option(fastalloc, words, told):
    sweep = 'name = "s"\nscenario = "swap-livelock-34m"\n[axes]\n"host.free_list" = [1, 2]\n'
    Path("sweep.toml").write_text(sweep)
    Path("wrong.toml").write_text(f'policies = ["fx"]\n{sweep}')
    done = fastalloc(*words.split())
    assert (done.code, done.out, done.err) == (2, "", told)


def test_a_small_mean_is_not_shown_as_none():
    assert [count(each) for each in (0, 0.0, 1 / 24, 0.4, 3.0, 29.2, 15898.8)] == [
        "0", "0", "0.04", "0.4", "3", "29.2", "15,899",
    ]  # fmt: skip
    assert [plural(each, "lane") for each in (0, 1, 4574)] == ["0 lanes", "1 lane", "4,574 lanes"]
    assert (plural(1, "entry", "entries"), plural(2, "entry", "entries")) == ("1 entry", "2 entries")


def test_usage_errors(fastalloc):
    done = fastalloc("run", "swap-livelock", "--lanes", 0)
    assert (done.code, done.out) == (2, "")
    assert "--lanes" in done.err
    assert fastalloc("no-such-command").code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run swap-livelock --lanes two", "--lanes: two: must be a valid integer"),
        ("run swap-livelock --lanes=0", "--lanes: 0: must be greater than or equal to 1"),
        ("run swap-livelock --seconds x", "--seconds: x: must be a valid number"),
        ("run swap-livelock --sed 3", "fastalloc run: --sed: no such option (did you mean '--seed'?)"),
        ("run swap-livelock --lanes", "fastalloc run: --lanes: needs a value; see `fastalloc run -h`"),
        ("run swap-livelock --json=3", "fastalloc run: --json: takes no value; see `fastalloc run -h`"),
        ("run a b c", "fastalloc run: b c: not expected; see `fastalloc run -h`"),
        ("run", "fastalloc run: SCENARIO: is missing; see `fastalloc run -h`"),
        ("policy check", "fastalloc policy check: FILE: is missing; see `fastalloc policy check -h`"),
        ("caches --size 8 --cpus 0", "--cpus: 0: must be greater than or equal to 1"),
        ("explain dmesg.txt --limit -1", "--limit: -1: must be 0 (all) or more"),
        ("scenarios swap-livelock", "fastalloc scenarios: no command 'swap-livelock'; there is: show"),
        (
            "run linux-2.6.25-rc8-512",
            "linux-2.6.25-rc8-512: no such scenario (did you mean 'linux-2.6.25-rc8-512m'?): neither a file nor one of "
            "hugh-256m, swap-livelock, swap-livelock-34m",
        ),
        ("rare swap-livelock --width 1", "--width: 1: must be greater than or equal to 1.01"),
        ("explain --limit x log", "--limit: x: must be a valid integer"),
        ("explain --limt 3 log", "fastalloc explain: --limt: no such option (did you mean '--limit'?)"),
    ],
)
def test_options_are_refused_in_one_voice(fastalloc, words, told):
    done = fastalloc(*words.split())
    assert (done.code, done.err) == (2, f"{told}\n")


def test_all_faults_of_settings_are_told_at_once(fastalloc):
    settings = [word for key in ("policy.a", "costs.b", "policy.c") for word in ("--set", f"{key}=1")]
    done = fastalloc("run", "swap-livelock", *settings)
    assert done.code == 2
    assert [line.split(": ")[2] for line in done.err.splitlines()] == ["costs.b", "policy.a", "policy.c"]


def test_rerun_is_equal_and_saves_its_events(fastalloc):
    fastalloc("run", "swap-livelock", "--lanes", 3, "--seconds", 60, "--out", "d")
    done = fastalloc("rerun", "d", 4)
    assert done.code == 0
    assert "every metric equals the stored row" in done.out
    events = pl.read_parquet("d/rerun/4.parquet")
    assert events["variant"].unique().to_list() == ["fix"]
    stored = open_dataset("d").events.filter(pl.col("id") == 4).collect()
    assert set(stored["t_ns"]) <= set(events["t_ns"])
    one_line(fastalloc("rerun", "d", 12), "d: runs: no lane 12")


def test_rerun_shows_events_from_any_time_on_and_says_which(fastalloc):
    fastalloc("run", "swap-livelock", "--lanes", 3, "--seconds", 60, "--out", "d")
    runs = open_dataset("d").runs.filter(pl.col("livelock_onset_ms") > 0).select("id", "livelock_onset_ms").collect()
    lane, onset_ms = runs.row(0)
    head = fastalloc("rerun", "d", lane, "--events", 2).out.splitlines()
    total = pl.read_parquet(f"d/rerun/{lane}.parquet").height
    assert head[0].startswith(f"events 1 to 2 of {total:,}, 18.000 to ")
    told = " ".join(" ".join(head[3:]).split())
    assert f"0 events before these and {total - 2:,} after: --since TIME shows from there, --events 0 all" in told
    assert f"its livelock begins at {onset_ms / 1000:.3f} s: --since 1s-before-livelock" in told
    later = fastalloc("rerun", "d", lane, "--since", "0s-before-livelock", "--events", 0).out.splitlines()
    times = [float(line.split()[0]) for line in later[1:] if line.split()[0].replace(".", "").isdigit()]
    assert min(times) >= onset_ms / 1000
    assert f" of {total:,}, " in later[0]
    told = json.loads(fastalloc("rerun", "d", lane, "--json").out)
    assert (told["lane"], told["events"], told["differing"]) == (lane, total, [])
    one_line(fastalloc("rerun", "d", lane, "--since", "99s"), "--since: 99s: is 99 s; the run lasts 60 s")
    calm = open_dataset("d").runs.filter(pl.col("livelock_onset_ms") < 0).select("id").first().collect().item()
    one_line(fastalloc("rerun", "d", calm, "--since", "1s-before-livelock"), "no livelock in this lane")


def test_rerun_tells_what_differs(fastalloc, monkeypatch):
    fastalloc("run", "swap-livelock", *SMALL, "--out", "d")

    def otherwise(*arguments, **named):
        for result in fake_batch.run_lanes(*arguments, **named):
            metrics = np.array(result.metrics)
            metrics[METRIC.bios] += 1
            yield result._replace(metrics=metrics)

    monkeypatch.setattr(runner, "run_lanes", otherwise)
    done = fastalloc("rerun", "d", 0)
    assert done.code == 1
    assert "lane 0: differs from the stored row in bios" in done.err


def test_machine_import(fastalloc):
    dump = PRESETS / "machines/dumps/linux-2.6.25-rc8-512m.txt.gz"
    shown = fastalloc("machine", "import", dump)
    assert 'name = "DMA32"' in shown.out
    done = fastalloc("machine", "import", dump, "-o", "mine.toml")
    assert "2 zones, 40 slab caches" in done.err
    Path("mine-scenario.toml").write_text('name = "mine"\nmachine = "mine.toml"\n')
    assert fastalloc("run", "mine-scenario.toml", *SMALL).code == 0


def test_scenarios_are_listed(fastalloc):
    done = fastalloc("scenarios")
    assert "swap-livelock" in done.out
    words = " ".join(done.out.split())
    assert "default-min-free rc8 with the min_free_kbytes it boots with (only when asked for)" in words


def test_interrupted_run_keeps_what_is_done(fastalloc, monkeypatch):
    def interrupted(scenarios, lanes, *, cancel, **named):
        for i, result in fake_batch.run_machines(scenarios, lanes, cancel=cancel, **named):
            if scenarios[i].policy.command_rule == "fix" and result.lane == 1:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            yield i, result

    monkeypatch.setattr(runner, "run_machines", interrupted)
    done = fastalloc("run", "swap-livelock", "--lanes", 4, "--seconds", 40, "--out", "d")
    assert done.code == 130
    told = " ".join(done.err.split())
    assert "stopped; what was finished is kept: 6 of 16 lanes, in d. A run does not go on with them" in told
    again = "d: holds a dataset already (interrupted: a run does not go on with it); name another folder"
    one_line(fastalloc("run", "swap-livelock", "--lanes", 4, "--seconds", 40, "--out", "d"), again)
    dataset = open_dataset("d")
    assert dataset.manifest["status"] == "interrupted"
    assert dataset.runs.collect().group_by("variant").len().sort("variant").rows() == [("fix", 2), ("rc8", 4)]
    assert Path("d/report.html").exists()


def test_a_failed_write_is_no_interrupt(fastalloc, monkeypatch):
    def failing(scenarios, lanes, *, cancel, **named):
        for i, result in fake_batch.run_machines(scenarios, lanes, cancel=cancel, **named):
            if scenarios[i].policy.command_rule == "fix":
                cancel.set()  # the batch stops its threads
                Path("d/runs").rename("d/elsewhere")
            yield i, result

    monkeypatch.setattr(runner, "run_machines", failing)
    one_line_at_end = fastalloc("run", "swap-livelock", *SMALL, "--out", "d").err.splitlines()[-1]
    assert "d/runs" in one_line_at_end
    assert "cannot be written" in one_line_at_end


def test_interrupted_before_the_first_lane(fastalloc, monkeypatch):
    def interrupted(*arguments, **named):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return iter(())

    monkeypatch.setattr(runner, "run_machines", interrupted)
    done = fastalloc("run", "swap-livelock", *SMALL, "--out", "d")
    assert done.code == 130
    assert "before the first lane was finished; nothing is kept, the same command" in " ".join(done.err.split())
    monkeypatch.setattr(runner, "run_machines", fake_batch.run_machines)
    assert fastalloc("run", "swap-livelock", *SMALL, "--out", "d").code == 0


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastalloc.cli.main", *arguments], capture_output=True, text=True, timeout=60, **options
    )


def test_help_and_version_load_little():
    """What makes them quick: of other packages nothing but typer and what it asks for, of this one the command line."""
    code = (
        "import sys; sys.argv = ['fastalloc', '--help']; before = set(sys.modules)\n"
        "from fastalloc.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "loaded = set(sys.modules) - before\n"
        "print(*sorted({name.partition('.')[0] for name in loaded} - sys.stdlib_module_names))\n"
        "print(*(name for name in loaded if name.startswith('fastalloc.') and '.cli' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages, own = (set(line.split()) for line in done.stdout.splitlines()[-2:])
    assert {"fastalloc", "typer"} <= packages <= {"annotated_doc", "click", "fastalloc", "shellingham", "typer"}
    # what the command line itself asks: it loads nothing more
    assert own <= {
        "fastalloc.errors",
        "fastalloc.terminal",
        "fastalloc.width",
        "fastalloc.bounded",
        "fastalloc.plural",
        "fastalloc.threads",
    }
    assert command("--version").stdout.startswith("fastalloc ")


def test_ctrl_c_anywhere_is_130():
    code = "import os, signal, sys; from fastalloc.cli import app as a, main as m\n"
    code += "a.build_app = lambda *name: lambda: os.kill(os.getpid(), signal.SIGINT)\nm.main()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 130


def test_public_face_is_lazy():
    code = (
        "import sys, fastalloc\n"
        "assert not {'numba', 'polars', 'pydantic'} & set(sys.modules)\n"
        "assert fastalloc.load_scenario('swap-livelock').name == 'swap-livelock'\n"
        "assert 'numba' not in sys.modules\n"
        "print(*dir(fastalloc))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "load_scenario" in done.stdout
    import fastalloc

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fastalloc.nothing  # noqa: B018


def test_an_event_says_where_a_command_came_from():
    """COMMAND.source is no WHO: 1 is the free_list."""
    rows = np.array([(0, EVENT.command_start, 0, -1, 3, source, 0) for source in (0, 1)])
    slabs, free_list = event_lines(rows)
    assert slabs.endswith("3 bios, command and sense buffer from their slabs")
    assert free_list.endswith("3 bios, command and sense buffer from the free_list")


def test_a_side_input_that_is_not_there_is_told_as_such(fastalloc):
    trace = Path(__file__).parents[1] / "data" / "traces" / "d_stack_k612.events.parquet"
    done = fastalloc("replay", trace, "--state", "nosuch")
    assert (done.code, done.err) == (2, "nosuch: cannot be read: No such file or directory\n")
    done = fastalloc("replay", trace, "--what-if", "order=x")
    assert done.code == 2
    assert done.err.endswith("such as order=2\n")
