"""A user's own policy: the example of docs/policies.md as it stands there, what is off, what is refused."""

import re
from pathlib import Path

import pytest

from fastalloc.batch.caches import build_caches
from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.state import DEPTH
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.scenario import with_policies
from tests.closed_loop.small import advance, happened, image, metric, run
from tests.policies.test_closed_loop import BASE, LANES, results, total

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
WITHOUT_A_WORD = """
def merge(cache, other):
    return True

def entitlement(who, gfp, slab):
    return 1 if who >= 0 else 0

def depth(who, zone):
    return -1 - (zone.min < 0)

def fallback(who, gfp, cache, cpu):
    return -1 if cpu >= 0 else gfp

def next_slab(slab):
    return -1 if slab.total > 0 else 0

def free_to(slab):
    return -1 if slab.total > 0 else 3

def keep(cache):
    return cache.min_partial

def mempool(pool):
    return -1 if pool.min >= 0 else 1

def sleep(pool):
    return -1 if pool.min >= 0 else 1
"""


def example():
    """The one Python file of the page."""
    (found,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return found


def with_questions(source):
    return BASE.with_settings({"policy.questions": source})


@pytest.fixture
def sense_first(tmp_path):
    """The example, saved as the page says."""
    path = tmp_path / "sense_first.py"
    path.write_text(example(), encoding="utf-8")
    return path


def test_the_example_of_the_docs_runs_and_does_what_it_says(sense_first):
    scenario = with_policies(BASE, [str(sense_first)]).variant("sense_first")
    lanes = [run(scenario, lane) for lane in LANES]
    assert sum(metric(result, "sense_fail") for result in lanes) == 0 < total("rc8", "sense_fail")
    assert sum(metric(result, "livelock_5s") for result in lanes) == 0 < total("rc8", "livelock_5s")
    ledger = sum(result.ledger for result in lanes)
    assert ledger[WHO.sense, :, WHO.bio].sum() == 0
    assert sum(result.ledger for result in results("rc8"))[WHO.sense, :, WHO.bio].sum() > 0
    assert sum(metric(result, "refusals") for result in lanes) > 0
    caches = build_caches(scenario)
    assert caches.root_of("biovec-1") == "biovec-1"
    assert caches.root_of("scsi_sense_cache") == "kmalloc-128"


def test_the_example_keeps_every_object_and_skips_alike(sense_first):
    scenario = with_policies(BASE, [f"fix+{sense_first}"]).variant("fix+sense_first")
    short = scenario.with_settings({"run.duration_s": 4.0})
    assert image(run(short, 3, debug=True)) == image(run(short, 3, skip=False))


def test_a_policy_that_answers_as_the_kernel_is_the_baseline():
    for lane in range(4):
        assert happened(run(with_questions(WITHOUT_A_WORD), lane)) == happened(results("rc8")[lane])


def test_each_question_is_asked_with_what_it_says():
    """A page is had as deep as the answer goes, and its depth is entered in the ledger by what that amounts to."""
    source = "def depth(who):\n    return 0 if who == 5 else -1\n"
    assert WHO.names[5] == "sense"
    arrays = build_lane(with_questions(source), 0, 1)
    advance(0, arrays, 15_000)
    allocated = arrays.out.ledger[WHO.sense]
    assert allocated[[DEPTH.high, DEPTH.atomic]].sum() == 0
    lanes = [run(with_questions(source), lane) for lane in LANES]
    assert sum(result.ledger[WHO.sense, DEPTH.none].sum() for result in lanes) > 0
    assert sum(metric(result, "sense_fail") for result in lanes) < total("rc8", "sense_fail")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def depth(:\n    pass\n", ("line 1", "invalid syntax")),
        ("import no_such_module\n\ndef depth(who):\n    return 0\n", ("ModuleNotFoundError", "no_such_module")),
        ("def deepness(who):\n    return 0\n", ("line 1", "deepness is no question, and nothing calls it")),
        ("x = 1\n", ("answers none of merge, entitlement, depth",)),
        ("def depth(zine):\n    return 0\n", ("depth, line 1", "'zine'", "did you mean 'zone'?")),
        ("depth = 5\n", ("depth", "expected a plain function")),
        ("def depth(who):\n    return open(5)\n", ("line 2", "depth: open is no function of this file")),
    ],
)
def test_what_is_no_policy_is_refused(source, words):
    with pytest.raises(InputError) as error:
        build_lane(with_questions(source), 0, 1)
    for word in ("policy.questions", *words):
        assert word in str(error.value)
    assert str(error.value).count("\n") == 0


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"missing\.py"):
        with_policies(BASE, [str(tmp_path / "missing.py")])


def test_an_own_policy_needs_slub_of_2_6_25():
    with pytest.raises(InputError, match="asked of allocator 'slub'"):
        with_questions(WITHOUT_A_WORD).with_settings({"policy.allocator": "slab"})
