"""Do the intervals of `rare` cover? Real lanes against long brute force, a hundred repetitions a rate.

    python results/rare/coverage.py      # some minutes on a core; a test asks for 90 of 100

The machine is the small one over its first seconds, so that a lane takes milliseconds. Each repetition has a seed of
its own and stops when its interval is narrow enough. Writes coverage.json.
"""

import json
from pathlib import Path

from fastalloc.model_digest import model_digest
from fastalloc.rare.events import Event
from fastalloc.rare.rare import Budget, rare
from fastalloc.rare.until import lanes_until
from fastalloc.report.hazard import exposure_s, hazard
from fastalloc.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
LIVELOCK = Event("livelock")
SECONDS = 8.0
RUNGS = {24: 3000, 112: 8000}  # min_free_kbytes, about a fifth and a hundredth of lanes: lanes of the brute force
BRUTE_SEED, FIRST_SEED = 999_999, 1
REPETITIONS, WIDTH = 100, 6.0


def scenario(reserve: int) -> Scenario:
    settings = {"machine.min_free_kbytes": reserve, "run.duration_s": SECONDS}
    return load_scenario("swap-livelock-34m").variant("rc8").with_settings(settings)


def covered(reserve: int, brute_lanes: int, repetitions: int = REPETITIONS, threads: int = 1) -> dict[str, object]:
    """How often the intervals of the share of lanes and of the rate hold what brute force found."""
    own = scenario(reserve)
    brute = list(lanes_until(own, range(brute_lanes), LIVELOCK, BRUTE_SEED, threads=threads))
    events, exposure = exposure_s(brute, 0.0, SECONDS)
    share, rate = events / brute_lanes, events / exposure
    of_share = of_rate = lanes = 0
    for seed in range(FIRST_SEED, FIRST_SEED + repetitions):
        budget = Budget(1 << 20, width=WIDTH)
        found = rare(own, LIVELOCK, seed=seed, startup_s=0.0, budget=budget, threads=threads)
        assert found.stopped == "width"
        lanes += len(found.seen)
        _, low, high = hazard(found.seen, SECONDS, SECONDS).startup_share
        of_share += low <= share <= high
        steady = found.hazard.steady
        assert steady is not None
        of_rate += steady.low <= rate <= steady.high
    return {
        "min_free_kbytes": reserve, "brute_lanes": brute_lanes, "brute_events": events,
        "share_of_lanes": round(share, 5),
        "repetitions": repetitions, "lanes": lanes, "share_covered": of_share, "rate_covered": of_rate,
    }  # fmt: skip


def main() -> None:
    """Both rates; what is finished is written at once."""
    rows = []
    for reserve, lanes in RUNGS.items():
        rows.append(covered(reserve, lanes))
        print(rows[-1], flush=True)
        told = {"model": model_digest()[:12], "preset": "swap-livelock-34m", "seconds": SECONDS, "rows": rows}
        (HERE / "coverage.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
