"""Policies on the same lanes: what does it save that they share their run up to where a policy is first asked?"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.measure import Row, figure, race
from fastalloc.batch import beginnings, run_machines
from fastalloc.batch.beginnings import begin_alike
from fastalloc.scenario import Scenario, load_scenario, with_policies

QUESTION = (
    "Lanes of all policies that begin as rc8 does, on one thread: how many times as long as each by itself do they "
    "take where each lane's beginning is run once?"
)
SEED = 1
WORKS = (
    ("swap-livelock", 20.0, 8),
    ("swap-livelock", 90.0, 8),
    ("hugh-256m", 20.0, 8),
    ("swap-livelock-34m", 15.0, 32),
)


def alike(preset: str, seconds: float) -> list[Scenario]:
    """All policies on a preset that begin as its first one does."""
    compared = with_policies(load_scenario(preset).with_settings({"run.duration_s": seconds}), ["all"])
    scenarios = [compared.variant(variant.name) for variant in compared.variants]
    return [each for each, first in zip(scenarios, begin_alike(scenarios, 0, SEED), strict=True) if first == 0]


def run(quick: bool) -> Iterator[Row]:
    """By machine and length of a lane, in turn; the results are compared before."""
    for preset, seconds, lanes in WORKS[:1] if quick else WORKS:
        scenarios = alike(preset, seconds)
        found: dict[str, list[np.ndarray]] = {}

        def contestant(name: str, most: int, scenarios: Any = scenarios, lanes: int = lanes, found: Any = found) -> Any:
            def once() -> None:
                kept, beginnings.MOST_BYTES = beginnings.MOST_BYTES, most
                try:
                    results = run_machines(scenarios, range(lanes), seed=SEED, threads=1)
                    found[name] = [result.metrics for _, result in results]
                finally:
                    beginnings.MOST_BYTES = kept

            return lambda: once

        contestants = {"shared": contestant("shared", beginnings.MOST_BYTES), "alone": contestant("alone", 0)}
        times = race(contestants, 2 if quick else 7)
        if not all(np.array_equal(a, b) for a, b in zip(found["shared"], found["alone"], strict=True)):
            raise SystemExit("a shared beginning changed a result")
        work = f"{preset}, {seconds:g} s, {len(scenarios)} policies on {lanes} lanes"
        ratios = [shared / alone for shared, alone in zip(times["shared"], times["alone"], strict=True)]
        yield figure(work, "beside each by itself", ratios, "x its time")
