"""Allocators of one's own in the closed loop: every object and page accounted for, beside the built-in ones on the same
lanes; what double-hands, loses or leaks ends the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastalloc.batch import heap as heap_module
from fastalloc.batch import refuse_lost, result_of, run_lanes, run_machines
from fastalloc.batch.lane import build_lane
from fastalloc.batch.snapshot import load, restore, save, take
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.own.state import CACHE_COUNT, ZONE_CTL
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.own.compiled import PolicyError
from fastalloc.scenario import with_policies
from tests.closed_loop.census import held, in_use
from tests.closed_loop.small import OWN_CORES, advance, image, metric, run, small

HERE = Path(__file__).parent
GALLERY = HERE.parents[1] / "docs" / "own"
FILES = {"slub": HERE / "slub_2_6_25.py", "classes": GALLERY / "lifetime_classes.py"}
BASE = small("rc8", OWN_CORES | {"run.duration_s": 6.0, "run.series_ms": 1000})
LANE = 3
PRESSED = {"machine.min_free_kbytes": 0, "machine.cpus": 4}


def own(name, settings=None, source=None):
    text = source or FILES[name].read_text(encoding="utf-8")
    file = {"policy.allocator": "own", "policy.questions": text, "policy.questions_file": f"{name}.py"}
    return BASE.with_settings(file | (settings or {}))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("slub", {}, marks=pytest.mark.slow),
        ("classes", {}),
        pytest.param("classes", PRESSED, marks=pytest.mark.slow),
    ],
)
def test_every_object_in_use_has_its_holder(name, settings):
    scenario = own(name, settings)
    arrays = build_lane(scenario, 1, 1, debug=True)
    for seconds in (1, 3, 6):
        advance(1, arrays, 1000 * seconds)
        assert in_use(arrays).tolist() == held(arrays).tolist() == arrays.heap.counts[:, CACHE_COUNT.live].tolist()
    result = result_of(1, arrays)
    assert metric(result, "pages_swapped_out") > 0
    assert metric(result, "max_slab_pages") == arrays.heap.ctl[ZONE_CTL.most]
    assert result.ledger[WHO.inode].sum() > 0 if hasattr(WHO, "inode") else result.ledger.sum() > 0
    refuse_lost(1, arrays, scenario)
    assert arrays.heap.ctl[ZONE_CTL.held] == 0


def test_skipping_checking_and_slices_change_no_byte():
    whole = image(run(own("classes"), LANE))
    assert whole == image(run(own("classes"), LANE, skip=False, debug=True))
    arrays = build_lane(own("classes"), LANE, 1)
    for milliseconds in (1, 777, 3001, 6000):
        advance(LANE, arrays, milliseconds)
    assert image(result_of(LANE, arrays)) == whole


def test_a_lane_that_outgrows_its_arrays_gets_larger_ones(monkeypatch):
    (whole,) = run_lanes(own("classes"), [LANE], seed=1, threads=1)
    monkeypatch.setattr(heap_module, "own_pages", lambda frames, room=1: 16 * room)
    (grown,) = run_lanes(own("classes"), [LANE], seed=1, threads=1)
    assert image(grown) == image(whole)


def test_a_lane_goes_on_from_a_snapshot(tmp_path, monkeypatch):
    scenario = own("classes")
    whole = image(run(scenario, LANE))
    arrays = advance(LANE, build_lane(scenario, LANE, 1), 3000)
    save(take(LANE, arrays), scenario, tmp_path / "lane.parquet")
    monkeypatch.setenv("FASTALLOC_TRUST", "1")
    snapshot, stored = load(tmp_path / "lane.parquet")
    assert stored == scenario
    lane = advance(LANE, restore(snapshot), 6000)
    assert image(result_of(LANE, lane)) == whole


@pytest.mark.slow
def test_the_built_in_ones_beside_it_are_as_without_it():
    """Its pages come from the zones as deep as the mask of its callers goes, like everybody's."""
    short = BASE.with_settings({"run.duration_s": 3.0})
    both = with_policies(short, ["fix", f"fix+{FILES['classes']}"])
    names = [variant.name for variant in both.variants]
    assert names == ["rc8", "fix", "fix+lifetime_classes"]
    lanes = {name: [] for name in names}
    for i, result in run_machines([both.variant(name) for name in names], [0, 1], seed=1, threads=1):
        lanes[names[i]].append(image(result))
    alone = with_policies(short, ["fix"])
    for name in ("rc8", "fix"):
        assert lanes[name] == [image(result) for result in run_lanes(alone.variant(name), [0, 1], seed=1, threads=1)]
    assert lanes["fix"] != lanes["fix+lifetime_classes"]


def test_slabs_are_as_deep_as_who_asked():
    arrays = advance(LANE, build_lane(own("classes"), LANE, 1), 6000)
    depths = arrays.out.ledger.sum(axis=(0, 2))
    assert depths[0] > 0
    assert depths[2:].sum() > 0, "nobody went below min: the lane shows nothing"
    bio = arrays.out.ledger[WHO.bio].sum(axis=1)
    assert bio[5:].sum() == 0 or bio[0] > 0


def test_what_raises_ends_its_lane_with_the_line():
    source = FILES["classes"].read_text(encoding="utf-8")
    before = "    order = order_of(heap.size[c, 0])\n"
    after = before.replace("\n", " // (address % 3)\n")
    with pytest.raises(PolicyError) as error:
        list(run_lanes(own("classes", source=source.replace(before, after)), [LANE], seed=1, threads=1))
    line = 1 + source[: source.index(before)].count("\n")
    assert f"lane {LANE} of rc8 at 0." in str(error.value)
    assert f"its allocator failed: classes.py: line {line}: free(c=" in str(error.value)


INTERPRETED = """
import sys
from tests.own.test_allocator import PLANTED, SLUB
from tests.own.test_lane import BASE
from fastalloc.batch import check_sound, refuse_lost
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.machine.run import run_lane

MORE = {
    "endless": ("    slow(zone)\\n    if s >= 0:", "    slow(zone)\\n    while c == c:\\n        pass\\n    if s:"),
    "overflow": ("    slow(zone)\\n    if s >= 0:", "    slow(zone)\\n    i = cpu - 9 << 62\\n    if s >= 0:"),
    "division": ("    slow(zone)\\n    if s >= 0:", "    slow(zone)\\n    s = s // (c - c)\\n    if s >= 0:"),
    "counts": ("heap.held[0, 0] += 1", "heap.held[0, 0] += 2"),
    "stray": ("    heap.held[0, 0] += 1\\n", "    heap.held[0, 0] += 1\\n    return -4096\\n"),
}
for name, (before, after, *_) in {**PLANTED, **MORE}.items():
    text = SLUB.replace(before, after)
    own = BASE.with_settings({"policy.questions": text, "policy.questions_file": "s.py", "policy.allocator": "own"})
    try:
        lane = build_lane(own, 3, 1)
        run_lane(*lane, 12_000_000)
        check_sound(3, lane, own)
        refuse_lost(3, lane, own)
        print(name, "| not found")
    except Exception as error:
        print(name, "|", type(error).__name__, error)
"""
FOUND = {
    "double hand-out": "alloc(c=6 (blkdev_requests), cpu=0, gfp=0xd0): address 0x2128 overlaps an object",
    "lost object": "pages are held although every object was freed and every cache shrunk",
    "leak of a page": "pages_held says 14 then, but 15 pages are held",
    "a page that is still in use": "was given back that is not held so, or has an object in use",
    "outside its page": "lies outside of the pages that are held",
    "an index": "s.py: line 36: ",
    "endless": "line 107: OverflowError: its loops take more than 100,000 turns",
    "overflow": "line 107: OverflowError: a whole number does not fit in 64 bits",
    "division": "line 107: ZeroDivisionError: ",
    "counts": "pages_held says 2 then, but 1 pages are held",
    "stray": "address -0x1000 lies outside of the pages that are held",
}


def test_every_planted_fault_is_found_in_the_loop():
    """Interpreted, which spares compiling ten files."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join([*sys.path, os.getcwd()])}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    told = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    assert told.keys() == FOUND.keys(), done.stderr
    for name, words in FOUND.items():
        assert told[name].startswith("PolicyError lane 3 of rc8 at "), told[name]
        assert "its allocator failed: s.py: line " in told[name]
        assert words in told[name], told[name]


@pytest.mark.slow
def test_what_fails_in_create_is_told_with_its_cache():
    source = FILES["classes"].read_text(encoding="utf-8")
    before = "    heap.size[c, 0] = size\n"
    with pytest.raises(PolicyError, match=r"classes\.py: line 10: ZeroDivisionError: .*: create\(c=2, size=[0-9]+\)"):
        build_lane(own("classes", source=source.replace(before, "    heap.size[c, 0] = size // (c - 2)\n")), LANE, 1)


def test_what_does_not_fit_an_allocator_is_refused():
    text = FILES["classes"].read_text(encoding="utf-8")
    for settings, words in (
        ({"policy.questions": text}, "an allocator runs under policy.allocator 'own', and nothing else does"),
        ({"policy.allocator": "own"}, "'own' is a file of one's own: name it with --policy FILE.py"),
        ({"policy.questions": "def keep():\n    return 1\n", "policy.allocator": "own"}, "it is 'own'"),
        ({"policy.questions": text, "policy.allocator": "own", "policy.entitlement": "rank"}, "entitlement: 'rank' is"),
        ({"policy.questions": text, "policy.allocator": "own", "policy.kept": 3}, "is no parameter of this file"),
    ):
        with pytest.raises(InputError) as error:
            BASE.with_settings(settings)
        assert words.replace("is no parameter", "is no field of a policy and no parameter") in str(error.value)


@pytest.mark.slow
def test_the_commands_run_it_and_stop_at_its_faults(fastalloc, tmp_path):
    (tmp_path / "classes.py").write_text(FILES["classes"].read_text(encoding="utf-8"))
    asked = ("compare", "swap-livelock-34m", "--lanes", 1, "--seconds", 1, "--debug")
    done = fastalloc(*asked, "--policies", "classes.py,fix+classes.py,6.12+classes.py", "--out", "d")
    assert done.code == 0, done.err
    manifest = (tmp_path / "d" / "manifest.json").read_text()
    assert '"rules": "allocator of classes.py, watermark discounts of 2.6.25' in manifest
    assert fastalloc("rerun", "d", 1).code == 2
    assert fastalloc("rerun", "d", 1, "--trust").code == 0
    bad = (tmp_path / "classes.py").read_text().replace("        give_pages(zone, page, order)\n", "        pass\n")
    (tmp_path / "bad.py").write_text(bad)
    failed = fastalloc(*asked, "--policies", "bad.py", "--out", "e")
    assert failed.code == 3
    assert "of bad at " in failed.err
    assert "bad.py: line 37: free(c=" in failed.err
    assert "Traceback" not in failed.err
