"""Does the last decade lie on the line through the rungs before it? Three ladders, each with two decades measured.

    python results/rare/ladders.py      # ten minutes on a core; tests/rare/test_results.py asks for it

Writes ladders.json: the rungs, the fit without the last decade, what it foretells, and whether the ladder is used.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from fastalloc.model_digest import model_digest
from fastalloc.rare.events import Event
from fastalloc.rare.ladder import Rung, fit, last_decade, predict
from fastalloc.rare.until import lanes_until
from fastalloc.scenario import load_scenario

HERE = Path(__file__).parent
LIVELOCK = Event("livelock")


class Ladder(NamedTuple):
    """A setting, and how many lanes at each of its values."""

    preset: str
    key: str
    seconds: float
    settings: dict[str, object]
    lanes: dict[int, int]


LADDERS = {
    "the reserve of 34 MB": Ladder(
        "swap-livelock-34m", "machine.min_free_kbytes", 8.0, {},
        {64: 400, 80: 600, 96: 1000, 112: 2000, 128: 4000, 160: 8000},
    ),
    "the reserve of 512 MB": Ladder(
        "swap-livelock", "machine.min_free_kbytes", 20.0, {},
        {64: 100, 96: 200, 128: 400, 160: 800, 192: 1500},
    ),
    "the copiers of 34 MB": Ladder(
        "swap-livelock-34m", "workload.copiers", 8.0, {"machine.min_free_kbytes": 48},
        {10: 400, 14: 600, 18: 1200, 22: 2500, 26: 4000},
    ),
}  # fmt: skip


def told(ladder: Ladder, threads: int = 1) -> dict[str, object]:
    """The rungs, and what the ones before the last decade say of those in it."""
    rungs = []
    for value, lanes in ladder.lanes.items():
        settings = ladder.settings | {ladder.key: value, "run.duration_s": ladder.seconds}
        own = load_scenario(ladder.preset).variant("rc8").with_settings(settings)
        events = sum(each.event for each in lanes_until(own, range(lanes), LIVELOCK, own.run.seed, threads=threads))
        rungs.append(Rung(value, lanes, events))
        print(ladder.preset, ladder.key, rungs[-1], file=sys.stderr, flush=True)
    found: dict[str, object] = {"rungs": [rung._asdict() for rung in rungs]}
    try:
        line = fit(rungs)
    except ValueError as error:
        return found | {"refused": str(error)}
    before, last = last_decade(line)
    found |= {"fit_p": line.fit_p, "curvature_p": line.curvature_p, "decade_p": line.decade_p, "used": line.is_straight}
    if not line.is_straight:
        found["refused"] = f"no straight line (p {line.worst_p:.2g})"
    foretold = []
    try:
        earlier = fit(before)
        for rung in last:
            guess = predict(earlier, rung.setting)
            foretold.append(guess._asdict() | {"events": rung.events, "lanes": rung.lanes})
    except ValueError as error:
        found["without_the_last_decade"] = str(error)
    return found | {"foretold": foretold}


def main() -> None:
    """All three."""
    path = HERE / "ladders.json"
    rows = {}
    for name, ladder in LADDERS.items():
        rows[name] = {"preset": ladder.preset, "setting": ladder.key, "seconds": ladder.seconds} | told(ladder)
        path.write_text(json.dumps({"model": model_digest()[:12], "ladders": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
