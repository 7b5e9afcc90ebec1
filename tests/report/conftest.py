"""A dataset of made-up lanes, and charts that are checked as they are made."""

from contextlib import nullcontext

import pytest

from fastalloc.report import html, replay_page
from fastalloc.scenario import load_scenario
from fastalloc.store import DatasetWriter, open_dataset
from tests.fake_batch import fake_lane


@pytest.fixture(scope="module", autouse=True)
def by_schema():
    """Altair compares each chart with its schema, for which users do not wait."""
    with pytest.MonkeyPatch.context() as patch:
        for page in (html, replay_page):
            patch.setattr(page, "debug_mode", nullcontext)
        yield


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory):
    """Returns a function that writes and opens a dataset of some variants, lanes and seconds."""

    def make(variants=("rc8", "fix", "nomerge"), lanes=12, seconds=60, **settings):
        scenario = load_scenario("swap-livelock")
        scenario = scenario.with_settings({"run.lanes": lanes, "run.duration_s": seconds} | settings)
        path = tmp_path_factory.mktemp("report") / "dataset"
        writer = DatasetWriter(path, scenario, variants, "fastalloc run swap-livelock")
        for name in variants:
            writer.start_variant(name)
            for lane in range(lanes):
                writer.add(fake_lane(scenario.variant(name), lane, scenario.run.seed))
        writer.close("complete", {"wall_s": 1.0, "cpus": 2})
        return open_dataset(path)

    return make


@pytest.fixture(scope="session")
def dataset(make_dataset):
    return make_dataset()
