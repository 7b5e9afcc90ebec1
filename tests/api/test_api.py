"""The library calls: examples in their docstrings, what notebooks show, and cells that are run twice."""

import doctest
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import fastalloc
from fastalloc import api
from fastalloc.errors import InputError
from fastalloc.sweep.frontier import Frontier

DATA = Path(__file__).parents[1] / "data"
SWEEP = """
name = "reserve"
scenario = "swap-livelock-34m"
variants = ["rc8"]
lanes = 2
[axes]
"machine.min_free_kbytes" = [24, 400]
[set]
"run.duration_s" = 3
"""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A working folder with a trace, a report and a sweep in it, as the examples have them."""
    here = tmp_path_factory.mktemp("api")
    events = pl.read_parquet(DATA / "traces" / "d_stack_k612.events.parquet")
    events.head(3000).write_parquet(here / "run.events.parquet")  # a start without lists is fitted in a moment
    shutil.copy(next((DATA / "memory_reports" / "001-2.6.9-order0-highmem").glob("input.txt")), here / "dmesg.txt")
    (here / "reserve.toml").write_text(SWEEP)
    (here / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield here


def examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(f"fastalloc.{name}") for name in ("api", "explain.log", "scenario.load")]
    return [test for module in modules for test in finder.find(module, module.__name__) if test.examples]


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_examples(test):
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not said, "".join(said)


def test_every_call_has_an_example_that_runs():
    told = {test.name.rpartition(".")[2] for test in examples()}
    calls = {name for name in fastalloc.__all__ if name[0].islower()}
    assert calls - told <= {"import_machine", "load_policy", "load_scenario", "open_dataset", "rerun", "explain"}
    for name in calls:
        words = getattr(api, name, None) or getattr(fastalloc, name)
        assert words.__doc__, name


def test_a_cell_run_twice_opens_what_is_there(folder):
    asked = {"variants": ["fix"], "lanes": 2, "seconds": 3}
    first = fastalloc.run("swap-livelock-34m", "out/twice", **asked)
    stamps = {path: path.stat().st_mtime_ns for path in Path("out/twice").rglob("*")}
    again = fastalloc.run("swap-livelock-34m", "out/twice", **asked)
    assert again.runs.collect().equals(first.runs.collect())
    assert {path: path.stat().st_mtime_ns for path in Path("out/twice").rglob("*")} == stamps
    with pytest.raises(InputError, match=r"holds another run: run.seed 1, not 7; name another folder"):
        fastalloc.run("swap-livelock-34m", "out/twice", **asked, seed=7)
    with pytest.raises(InputError, match=r"variants fix, not rc8"):
        fastalloc.run("swap-livelock-34m", "out/twice", **asked | {"variants": ["rc8"]})


def test_short_words_and_tables_for_notebooks(folder):
    dataset = fastalloc.run("swap-livelock-34m", "out/shown", variants=["rc8", "fix"], lanes=2, seconds=3)
    shown = [dataset, fastalloc.replay("run.events.parquet", kernel="6.12"), fastalloc.trace("run.events.parquet")]
    for thing in shown:
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 200
        assert "<table" in thing._repr_html_()
    assert "<svg" in dataset._repr_html_()
    assert dataset.verdicts["variant"].to_list() == ["rc8", "fix"]
    assert isinstance(dataset.board, pl.DataFrame)


def test_names_and_their_homes_are_one_list():
    assert set(fastalloc.__all__) == set(fastalloc._HOMES) | set(fastalloc._CALLED)
    for name in fastalloc.__all__:
        assert callable(getattr(fastalloc, name)), name


def test_explain_starts_without_numba():
    code = (
        "import sys, fastalloc; fastalloc.explain('dmesg.txt')\n"
        "assert not {'numba', 'polars', 'pyarrow', 'altair', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_frames_have_documented_columns(folder):
    """Every column of a frame that a property returns is named in its docstring."""
    from fastalloc.replayed import Replay, Trace

    told = set(re.findall(r"``(\w+)``", Trace.caches.__doc__ + Trace.holders.__doc__))
    assert set(fastalloc.trace("run.events.parquet").caches.columns) <= told
    words = set(re.findall(r"``(\w+)``", Replay.summary.__doc__))
    assert set(fastalloc.replay("run.events.parquet", kernel="6.12").summary.columns) <= words


def test_every_object_tells_itself_in_a_line_and_shows_itself_in_a_notebook():
    objects = [
        fastalloc.load_scenario("swap-livelock-34m"),
        fastalloc.load_scenario("swap-livelock-34m").machine,
        fastalloc.policies("2.6.26"),
        fastalloc.explain("dmesg.txt")[0],
        Frontier("host.free_list", 0.05, 0.95, 24, None, []),
    ]
    for each in objects:
        assert "\n" not in repr(each), repr(each)
        assert len(repr(each)) < 250, repr(each)
        assert re.search("<table>|<pre>", each._repr_html_()), type(each)
    assert repr(objects[-1]).startswith(
        "Frontier of host.free_list: a livelock is more frequent than 0.05 at 24, rarer at no value"
    )


def test_one_name_may_stand_where_a_list_of_names_may(folder):
    dataset = fastalloc.run("swap-livelock-34m", "out/one", variants="fix", lanes=2, seconds=3)
    assert dataset.verdicts["variant"].to_list() == ["fix"]
    found = fastalloc.replay("run.events.parquet", "order=0", kernel="6.12")
    assert found.summary["config"].to_list() == ["as traced", "order=0"]
    with pytest.raises(InputError, match="must be a whole number of bytes"):
        fastalloc.caches("kmalloc-64")
