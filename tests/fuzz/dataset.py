"""A dataset of a few made-up lanes."""

from pathlib import Path

from fastalloc.scenario import load_scenario
from fastalloc.store import DatasetWriter
from tests import fake_batch


def small_dataset(folder: Path) -> Path:
    """Two variants of two lanes each, complete."""
    scenario = load_scenario("swap-livelock-34m").with_settings({"run.lanes": 2, "run.duration_s": 60.0})
    names = [variant.name for variant in scenario.variants][:2]
    writer = DatasetWriter(folder, scenario, names, "fastalloc run swap-livelock-34m")
    for name in names:
        writer.start_variant(name)
        for lane in range(2):
            writer.add(fake_batch.fake_lane(scenario.variant(name), lane, 1, False))
    writer.close("complete", {})
    return folder
