"""How often an event comes: plain lanes until enough of them are seen, or the budget is spent."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple

import pyarrow as pa

from fastalloc.batch import refuse_unfit, warm
from fastalloc.bounded import json_of
from fastalloc.errors import InputError, reading
from fastalloc.foreign import opened
from fastalloc.forked import refuse_forked
from fastalloc.model_digest import model_digest
from fastalloc.rare.events import Event
from fastalloc.rare.until import lanes_until
from fastalloc.report.hazard import NS_PER_S, STARTUP_S, Hazard, Seen, exposure_s, hazard
from fastalloc.report.poisson import events_for_width
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.models import Scenario
from fastalloc.store.location import Location, location, open_input, whole_file, write_file
from fastalloc.store.write import write_parquet

STEP = 64  # lanes after which it is asked whether there are enough: the answer must not depend on threads
KEEP_S = 2.0  # what a killed process loses at most
MANIFEST = "rare.json"
LANES = "lanes.parquet"
_SCHEMA = pa.schema([("lane", pa.int64()), ("event", pa.bool_()), ("at_ns", pa.int64())])


class Budget(NamedTuple):
    """When to stop, whichever comes first."""

    lanes: int = 1 << 14
    wall_s: float = float("inf")
    width: float = 4.0  # upper over lower end of the interval of the rate after the start-up


class RareProgress(NamedTuple):
    """How far it is."""

    lanes: int
    events: int  # after the start-up
    most_lanes: int
    wall_s: float


class Rare(NamedTuple):
    """What was found."""

    event: Event
    scenario: Scenario
    seen: tuple[Seen, ...]  # in the order of lanes
    hazard: Hazard
    stopped: str  # width, lanes, time or interrupted


def rare(
    scenario: Scenario,
    event: Event,
    *,
    seed: int | None = None,
    startup_s: float = STARTUP_S,
    budget: Budget = Budget(),
    out: str | Location | None = None,
    threads: int = 0,
    executor: Executor | None = None,
    workers: int = 0,
    progress: Callable[[RareProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Rare:
    """Runs plain lanes 0, 1, 2 ... of a scenario (of one variant) until their first event each.

    It stops when the interval is narrow enough, looked at after each STEP lanes; the width depends on the number of
    events alone, so stopping by it is stopping at a number of events, for which the interval holds its level.

    Args:
        seed: of all lanes; the scenario's own by default.
        startup_s: simulated time after boot that is kept apart.
        out: a folder in which lanes are kept, every KEEP_S seconds and at the end; what is there is not run again.
        threads: 0 is one a CPU. The lanes do not depend on it, nor on where they run.
        executor: where lanes run instead of in threads of this process; their kernels are compiled there.
        workers: how many tasks the executor runs at once.

    More than nine arguments: those behind the event are options, each with a default.

    Raises:
        InputError: the folder holds lanes of something else, or a machine that cannot be simulated.
        LaneError: a lane's state is not to be trusted.
    """
    own_seed = scenario.run.seed if seed is None else seed
    if executor is None:  # the memory of other machines is not known here
        refuse_unfit([scenario], threads or 1)
        warm(scenario)
    found = _Kept(out, scenario, event, own_seed) if out is not None else None
    seen = found.seen if found else []
    length_s = scenario.run.duration_s
    from_s = startup_s if startup_s < length_s else 0.0
    counted = exposure_s(seen, from_s, length_s)[0]
    begun = kept = time.monotonic()
    why = enough(len(seen), counted, budget)
    where: dict[str, Any] = {"threads": threads, "executor": executor, "workers": workers, "cancel": cancel}
    lanes = range(len(seen), 0 if why else budget.lanes)
    try:
        for each in lanes_until(scenario, lanes, event, own_seed, **where):
            seen.append(each)
            counted += exposure_s([each], from_s, length_s)[0]
            now = time.monotonic()
            if progress is not None:
                progress(RareProgress(len(seen), counted, budget.lanes, now - begun))
            why = enough(len(seen), counted, budget, now - begun)
            if why:
                break
            if found and now - kept >= KEEP_S:
                found.keep()
                kept = time.monotonic()
    finally:
        if found and lanes:
            found.keep()
    return Rare(event, scenario, tuple(seen), hazard(seen, length_s, startup_s), why or "interrupted")


def stored_texts(out: str | Location) -> KeptTexts:
    """The text of a file of one's own that the lanes in ``out`` were begun with; none where there are none."""
    manifest = location(out) / MANIFEST
    try:
        return KeptTexts([json_of(manifest, whole_file(manifest))["scenario"]["policy"]])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return NO_TEXTS


def enough(lanes: int, events: int, budget: Budget, wall_s: float = 0.0) -> str:
    """Why no more lanes are run, empty if more are: ``events`` are those that the width is asked of."""
    if lanes >= budget.lanes:
        return "lanes"
    if lanes % STEP:
        return ""
    if events >= events_for_width(budget.width):
        return "width"
    return "time" if lanes and wall_s >= budget.wall_s else ""


class _Kept:
    """The lanes of a folder."""

    def __init__(self, out: str | Location, scenario: Scenario, event: Event, seed: int) -> None:
        refuse_forked(str(out))
        self._path = location(out)
        told: dict[str, Any] = {
            "model_digest": model_digest(),
            "event": str(event),
            "seed": seed,
            "scenario": json.loads(scenario.model_dump_json(exclude={"run": {"lanes", "series_ms", "max_events"}})),
        }
        manifest = self._path / MANIFEST
        self.seen: list[Seen] = []
        if manifest.exists():
            with reading(manifest, "", "is no manifest of rare"):
                kept = json_of(manifest, whole_file(manifest))
                differing = [key for key in told if kept.get(key) != told[key]]
            if differing:
                raise InputError(manifest, ", ".join(differing), "not as asked now; name another folder")
            self._read(round(scenario.run.duration_s * NS_PER_S))
            return
        if (self._path / "manifest.json").exists():
            raise InputError(self._path, "", "holds a dataset; name another folder")
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(self._path, "", f"cannot be written: {error.strerror or error}") from None
        write_file(manifest, json.dumps(told, indent=1).encode())

    def _read(self, end_ns: int) -> None:
        path = self._path / LANES
        if not path.exists():
            return
        with reading(path, "", "holds no lanes of rare"), open_input(path) as source, opened(path, source) as file:
            table = file.read(use_threads=False)
            if not table.schema.equals(_SCHEMA):
                raise ValueError("other columns")
            self.seen = [Seen(**row) for row in table.to_pylist()]
            if [each.lane for each in self.seen] != list(range(len(self.seen))):
                raise ValueError("lanes are missing")
            for each in self.seen:
                if None in each or not (0 <= each.at_ns < end_ns if each.event else each.at_ns == end_ns):
                    raise ValueError(f"lane {each.lane} has no such event and no such end")

    def keep(self) -> None:
        """Write all lanes, whole or not at all."""
        write_parquet(self._path / LANES, pa.Table.from_pylist([each._asdict() for each in self.seen], _SCHEMA))
