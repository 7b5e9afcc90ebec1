"""Scenarios that once hung, took all memory or ran on in a broken state: refused, failed by name, or run."""

import pytest

from fastalloc.errors import InputError
from fastalloc.scenario import load_scenario
from fastalloc.scenario.models import Costs
from fastalloc.store import open_dataset
from tests.faults.test_files import FAULTS, quick, refused

DEPTH = "def depth(who, zone):\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conservation-s79.toml", ("machine.zones", "too little memory to boot")),
        ("s120.toml", ("costs", "copy_page", "at least 1 ns")),
        ("hang-s3.toml", ("workload.writer_pages", "48.0 GiB", "--memory")),
        ("writer-pages-2e31.toml", ("workload.writer_pages", "48.0 GiB", "--memory")),
        ("slot-4194376.toml", ("machine.slab_caches", "4194376 bytes")),
    ],
)
def test_what_cannot_be_simulated_is_refused(fastalloc, name, words):
    refused(quick(fastalloc, "run", FAULTS / name, "--lanes", 1, "--threads", 1), *words)


def test_costs_of_nothing_are_refused(fastalloc):
    words = (FAULTS / "costs-zero.sh").read_text().split()[1:]
    refused(quick(fastalloc, *words), "costs", "at least 1 ns")


def test_a_lane_outgrows_its_arrays_and_gets_larger_ones(fastalloc, tmp_path):
    small = tmp_path / "small.toml"
    small.write_text((FAULTS / "capacity-s59.toml").read_text().replace('"Z"', '"DMA"'))
    done = fastalloc("run", small, "--lanes", 1, "--debug", "--out", tmp_path / "d")
    assert done.code == 0, done.err
    policy = FAULTS / "policy-ent0.py"
    done = fastalloc("compare", "swap-livelock-34m", "--policies", policy, "--lanes", 1, "--seconds", 5)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ((FAULTS / "policy-raise.py").read_text(), ("depth(who=", "line 2: ValueError: x")),
        ((FAULTS / "policy-merge-raises.py").read_text(), ("merge(cache=", "line 2: KeyError: 'boo'")),
        (f"{DEPTH}    return 1 // (who - who)\n", ("ZeroDivisionError",)),
        (
            f"{DEPTH}    i = 0\n    while i >= 0:\n        i ^= 1\n    return i\n",
            ("line 3: OverflowError: its loops take more than 100,000 turns",),
        ),
    ],
)
def test_a_policy_that_fails_ends_the_run_with_code_3(fastalloc, tmp_path, source, words):
    file = tmp_path / "mine.py"
    file.write_text(source)
    done = fastalloc("compare", "swap-livelock-34m", "--policies", file, "--lanes", 2, "--seconds", 5, "--out", "d")
    assert done.code == 3
    assert done.out == ""
    line = done.err.splitlines()[-1]
    for word in words:
        assert word in line
    if "merge" not in source:
        assert "lane 0 of mine at 0." in line
        assert "again with: fastalloc run d/scenario.toml --debug --trust --variant mine --lanes 1" in line
        dataset = open_dataset("d")
        assert dataset.manifest["status"] == "failed"
        assert set(dataset.runs.collect()["variant"]) == {"rc8"}


def test_a_policy_that_calls_itself_is_refused(fastalloc, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def depth(who, zone):\n    return depth(who, zone)\n")
    refused(fastalloc("compare", "swap-livelock-34m", "--policies", file), "line 1", "calls itself")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("-" * 100_000 + "1", "no Python: needs more memory than there is"),
        ("(" * 5000 + "0" + ")" * 5000, "too many nested parentheses"),
    ],
)
def test_a_policy_that_is_nested_too_deeply_is_refused(fastalloc, tmp_path, body, told):
    """Python's parser gives up with a MemoryError that has no words."""
    file = tmp_path / "mine.py"
    file.write_text(f"def depth(who, zone):\n    return {body}\n")
    refused(fastalloc("compare", "swap-livelock-34m", "--policies", file), "mine.py", told)


@pytest.mark.parametrize("name", sorted(Costs.model_fields.keys() - {"rcu_callback"}))
def test_each_step_takes_time(name):
    with pytest.raises(InputError, match=f"{name}: must be at least 1 ns"):
        load_scenario("swap-livelock-34m").with_settings({f"costs.{name}": 0})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "swap-livelock-34m", "--lanes", 0), "--lanes"),
        (("compare", "swap-livelock-34m", "--lanes", 0), "--lanes"),
        (("run", "swap-livelock-34m", "--seconds", 0), "--seconds"),
        (("run", "swap-livelock-34m", "--set", "run.lanes=0"), "run.lanes"),
        (("sweep", "empty.toml"), "axes"),
        (("sweep", "none.toml"), "lanes"),
        (("frontier", "swap-livelock-34m", "--of", "pages_min", "--where", "livelock<0.1", "--lanes", 0), "--lanes"),
        (("reserve", "swap-livelock-34m", "--of", "bio_pool", "--seconds", 0.0001), "run.duration_s"),
    ],
)
def test_nothing_to_do_is_refused(fastalloc, tmp_path, words, told):
    axis = "[axes]\n'host.queue_depth' = []\n"
    (tmp_path / "empty.toml").write_text(f"name = 's'\nscenario = 'swap-livelock-34m'\n{axis}")
    (tmp_path / "none.toml").write_text("name = 's'\nscenario = 'swap-livelock-34m'\nlanes = 0\n")
    done = fastalloc(*words)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_sweep_is_estimated_before_it_runs(fastalloc, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTALLOC_MEMORY", "8G")
    axis = "[axes]\n'workload.writer_pages' = [100, 2000000000]\n"
    (tmp_path / "s.toml").write_text(f"name = 's'\nscenario = 'swap-livelock-34m'\nlanes = 1\n{axis}")
    for words in (("--dry-run",), ("--out", "d")):
        done = quick(fastalloc, "sweep", "s.toml", *words)
        refused(done, "point 1 (workload.writer_pages=2000000000)", "GiB", "--memory")
    assert not (tmp_path / "d").exists()
    words = ("--of", "workload.writer_pages", "--where", "livelock<0.5", "--from", 100, "--to", 2_000_000_000)
    done = fastalloc("frontier", "swap-livelock-34m", *words, "--lanes", 2, "--memory", "1M")
    assert done.code == 2
    assert "1 MiB may be taken" in done.err


def test_a_time_without_a_tick_is_refused(fastalloc):
    refused(fastalloc("run", "swap-livelock-34m", "--seconds", 0.0001), "run.duration_s", "less than a tick")


def test_memory_may_be_told(fastalloc, monkeypatch):
    monkeypatch.setenv("FASTALLOC_MEMORY", "1T")
    done = fastalloc("run", "swap-livelock-34m", "--lanes", 1, "--threads", 1, "--memory", "1M")
    refused(done, "1 lanes at once take", "1 MiB may be taken")
    refused(fastalloc("run", "swap-livelock-34m", "--memory", "many"), "--memory: many: must be a size")
