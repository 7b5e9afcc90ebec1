"""Does the last decade lie on the line through the rungs before it? Three ladders of more than a decade each.

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
        {16: 400, 24: 400, 32: 600, 48: 800, 64: 1200, 80: 1500, 96: 2000, 112: 3000, 128: 4000, 160: 8000},
    ),
    "the reserve of 256 MB": Ladder(
        "hugh-256m", "machine.min_free_kbytes", 20.0, {},
        {192: 300, 256: 400, 320: 600, 384: 800, 448: 1500, 512: 3000, 576: 4000},
    ),
    "the reserve of 512 MB": Ladder(
        "swap-livelock", "machine.min_free_kbytes", 20.0, {},
        {128: 400, 192: 600, 256: 800, 320: 1000, 384: 1500, 448: 2000, 512: 3000, 640: 4000},
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
