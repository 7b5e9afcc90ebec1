"""Reports of all versions, zones, orders and masks, against an independent calculation."""

import random

import pytest

import fastalloc
from tests.explain.printed import VERSIONS, Made, make
from tests.reference.page_watermark import check, class_of, may_use, overall

SEEDS = range(12)
EACH = 25


def agrees(made: Made) -> None:
    (answer,) = fastalloc.explain(made.text)
    data = answer.as_json()
    assert data["order"] == made.asked.order
    assert int(data["mode"], 16) == made.mode
    assert data["page_kb"] == made.page_kb
    expected = {(zone.node, zone.name): zone for zone in made.zones}
    assert {(zone["node"], zone["zone"]) for zone in data["zones"]} == set(expected)
    assert data["class_zone"] == class_of(made.asked)
    for zone in data["zones"]:
        true = expected[zone["node"], zone["zone"]]
        assert zone["free"] == true.free
        assert zone["allowed"] == may_use(made.asked, true.name)
        if zone["allowed"] and not true.managed:
            assert (zone["mark"], zone["verdict"]) == (None, "empty-zone")
        elif zone["allowed"]:
            verdict, mark, short = check(true, made.asked)
            assert (zone["mark"], zone["short_by"]) == (mark, short)
            if not made.asked.oom:
                assert zone["verdict"] == verdict
    assert data["verdict"] == overall(made.zones, made.asked)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_version_is_judged_as_the_reference_judges_it(seed):
    rng = random.Random(seed)
    for _ in range(EACH):
        made = make(rng)
        try:
            agrees(made)
        except AssertionError:
            print(made.text)
            raise


def test_the_made_reports_reach_every_version_and_verdict():
    rng, versions, verdicts = random.Random(1), set(), set()
    for _ in range(2000):
        made = make(rng)
        versions.add(made.asked.version)
        verdicts.add(overall(made.zones, made.asked))
    assert versions == set(VERSIONS)
    assert verdicts == {"below-mark", "fragmentation", "passes-now", "other", "zone-not-allowed"}
