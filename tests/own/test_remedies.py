"""Eight remedies that are built in, written as policies of one's own, are the same, event for event; the files of
docs/own do what they say."""

import json
from functools import cache
from pathlib import Path

import pytest

from fastalloc.kernels.lane.metrics import WHO
from fastalloc.own.allocator_text import is_allocator, read_allocator
from fastalloc.own.text import read_text
from fastalloc.scenario import with_policies
from fastalloc.verify.own.allocator_check import check_allocator
from fastalloc.verify.own.check import check
from tests.closed_loop.small import OWN_CORES, happened, run, small

GALLERY = Path(__file__).parents[2] / "docs" / "own"
BASE = small("rc8", OWN_CORES | {"run.duration_s": 9.0, "run.series_ms": 5000})
LANE = 3
REMEDIES = {
    "nomerge-sense": "def merge(cache, other):\n    return 'scsi_sense_cache' not in (cache, other)\n",
    "nomerge-bio": "def merge(cache, other):\n    return 'bio' not in (cache, other)\n",
    "nomerge-both": "def merge(cache, other):\n    return not {'bio', 'scsi_sense_cache'} & {cache, other}\n",
    "slub_nomerge": "def merge(cache, other):\n    return False\n",
    "min-partial": "def keep():\n    return 5\n",
    "mempool-pool-first": "def mempool():\n    return 1\n",
    "mempool-no-timeout": "def sleep():\n    return 0\n",
    "pfmemalloc": """
from fastalloc.linux.gfp import IN_INTERRUPT, MEMALLOC, NOMEMALLOC, PF_MEMALLOC
from fastalloc.own import DEPTH, KERNEL

def ignores_watermarks(gfp, context):
    entitled = (context & PF_MEMALLOC) != 0 and (context & IN_INTERRUPT) == 0
    return (entitled or (gfp & MEMALLOC) != 0) and (gfp & NOMEMALLOC) == 0

def next_slab(gfp, context, slab):
    return ignores_watermarks(gfp, context) if slab.depth == DEPTH.none else KERNEL
""",
}
LIKE_RC8 = {"mempool-no-timeout", "pfmemalloc"}  # on a lane that short


@cache
def built_in(name):
    return happened(run(with_policies(BASE, [name]).variant(name), LANE))


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_as_a_policy_of_ones_own_is_the_built_in_one(name):
    own = BASE.with_settings({"policy.questions": REMEDIES[name], "policy.questions_file": f"{name}.py"})
    assert happened(run(own, LANE)) == built_in(name)
    if name not in LIKE_RC8:
        assert built_in(name) != built_in("rc8")


def gallery():
    return sorted(path.name for path in GALLERY.glob("*.py"))


@pytest.mark.parametrize("name", [name for name in gallery() if name != "broken.py"])
def test_each_file_of_the_gallery_passes_its_check(name):
    source = (GALLERY / name).read_text(encoding="utf-8")
    look = check_allocator if is_allocator(source) else check
    assert look(source, name, {}, 0.3).faults == []
    assert source.count("\n") < 40


@pytest.mark.usefixtures("still_clock")
def test_the_broken_one_fails_as_the_page_says(monkeypatch):
    monkeypatch.setattr("fastalloc.verify.own.check.LONG", 600)  # both faults show in short ones
    source = (GALLERY / "broken.py").read_text(encoding="utf-8")
    faults = check(source, "broken.py", {}, 2.0).faults
    assert len(faults) == 2
    for fault in faults:
        assert fault.what.split(": ", 3)[2].split("(")[0] in ("ZeroDivisionError", "flush")
        assert fault.sequence
    kept = json.loads((GALLERY.parents[1] / "results" / "own" / "broken.json").read_text(encoding="utf-8"))
    assert [fault.lines() for fault in faults] == kept


def test_slots_of_a_sense_buffer_are_not_for_bios():
    source = (GALLERY / "sense_slots.py").read_text(encoding="utf-8")
    own = BASE.with_settings({"policy.questions": source, "policy.lease": 60_000})
    assert run(own, LANE).ledger[WHO.sense, :, WHO.bio].sum() == 0
    assert own.policy.parameters == {"lease": 60_000}


def test_every_file_is_shown_on_the_page():
    page = (GALLERY.parent / "own.md").read_text(encoding="utf-8")
    for name in gallery():
        assert f"own/{name}" in page
    for name in gallery():
        source = (GALLERY / name).read_text(encoding="utf-8")
        assert (read_allocator if is_allocator(source) else read_text)(source, name)
