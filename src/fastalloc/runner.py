"""Runs scenarios into datasets and single lanes again."""

import os
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import ValidationError

from fastalloc.batch import BatchProgress, Broken, ConservationError, LaneResult, refuse_unfit, run_lanes, run_machines
from fastalloc.batch.size import refuse_too_large
from fastalloc.compiler.cache_dir import announce_compiling
from fastalloc.errors import InputError, LaneError, reading
from fastalloc.fields import rows_html
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.model_digest import model_digest
from fastalloc.plural import plural
from fastalloc.scenario import Scenario, with_policies
from fastalloc.scenario.trust import refuse_code
from fastalloc.scenario.varied import input_error
from fastalloc.store import Dataset, DatasetWriter, open_dataset
from fastalloc.store.location import Location, location
from fastalloc.store.provenance import footer, provenance
from fastalloc.store.read import shard_paths
from fastalloc.store.schema import EVENTS_SCHEMA
from fastalloc.store.shards import shard_segments
from fastalloc.store.tables import event_columns
from fastalloc.store.write import MANIFEST, altered_texts, write_parquet
from fastalloc.threads import threads_of


class RunProgress(NamedTuple):
    """Where a run of several variants stands."""

    variant: str  # whose lanes are next
    lanes: int  # of a variant
    batch: BatchProgress  # of all variants


class Rerun(NamedTuple):
    """A lane run again with its full event log."""

    lane_id: int
    scenario: Scenario  # of the lane's variant
    result: LaneResult
    stored: dict[str, int]  # metrics of the dataset's row
    differing: tuple[str, ...]  # metrics that are not as stored
    same_model: bool  # the dataset was made by this version of the model

    def __repr__(self) -> str:
        found = "as stored" if not self.differing else f"differs in {', '.join(self.differing[:4])}"
        own = f"lane {self.result.lane} of {self.scenario.variants[0].name}, {self.scenario.name}"
        return f"Rerun of row {self.lane_id} ({own}): {found}; {len(self.result.events):,} events"

    def _repr_html_(self) -> str:
        now = dict(zip(METRIC.names, np.asarray(self.result.metrics).tolist(), strict=True))
        rows = [(name, now[name], self.stored.get(name, "")) for name in METRIC.names if now[name]]
        return rows_html(repr(self), ("metric", "now", "stored"), rows[:40])


def run(
    scenario: Scenario,
    out: str | Location,
    *,
    variants: Sequence[str] | None = None,
    threads: int = 0,
    debug: bool = False,
    skip: bool = True,
    command: str | None = None,
    progress: Callable[[RunProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Dataset:
    """Runs the variants of a scenario, each on ``scenario.run.lanes`` lanes, and stores what they give.

    Args:
        scenario: what to run; lanes, seed and duration are in ``scenario.run``.
        out: the dataset's folder; it must not hold one yet.
        variants: names, in the order to run; by default those marked as default.
        threads: how many; 0 is one a CPU. The result does not depend on it.
        debug: check conservation after every tick.
        skip: jump over ticks in which nothing can happen; the result does not depend on it.
        command: what to note as the command that makes the dataset again.
        progress: called as lanes advance.
        cancel: set it to stop; what is finished is kept and the manifest says ``interrupted``.

    Raises:
        InputError: an unknown variant, a machine that cannot be simulated, or a folder that cannot be used.
        LaneError: a policy failed, or every lane broke; the lanes before are kept, and the manifest says ``failed``.

    A lane that breaks has no row: the manifest tells of it under ``broken``, with the command that breaks it again.
    """
    if variants is None:
        variants = [variant.name for variant in scenario.variants if variant.default]
    chosen = [(name, scenario.variant(name)) for name in dict.fromkeys(variants)]
    announce_compiling()
    refuse_unfit([own for _, own in chosen], min(threads_of(threads), scenario.run.lanes * len(chosen)))
    out = location(out)
    command = command or f"fastalloc run {shlex.quote(str(out / 'scenario.toml'))} {_variant_options(variants)}"
    writer = DatasetWriter(out, scenario, [name for name, _ in chosen], command)
    begun = time.monotonic()
    status = "interrupted"
    current = -1

    def tell(batch: BatchProgress) -> None:
        if progress is not None:
            progress(RunProgress(chosen[max(current, 0)][0], scenario.run.lanes, batch))

    def note_broken(variant: int, lane: Broken) -> None:
        broken.append(lane)
        writer.add_broken(lane, variant * scenario.run.lanes + lane.lane)

    broken: list[Broken] = []
    try:
        finished = 0
        for variant, result in run_machines(
            [own for _, own in chosen],
            range(scenario.run.lanes),
            seed=scenario.run.seed,
            threads=threads,
            debug=debug,
            skip=skip,
            progress=tell,
            broken=note_broken,
            cancel=cancel,
        ):
            if variant != current:
                current = variant
                writer.start_variant(chosen[variant][0])
            writer.add(result)
            finished += 1
        if broken and not finished:
            raise ConservationError(broken[0])
        if finished + len(broken) == scenario.run.lanes * len(chosen):
            status = "complete"
    except LaneError as error:
        status = "failed"
        error.again = _again(out, error, any(own.policy.questions for _, own in chosen))
        writer.manifest["failed"] = str(error)
        raise
    finally:  # an error or a second Ctrl-C loses no finished lane either
        wall_s = round(time.monotonic() - begun, 3)
        writer.close(status, {"wall_s": wall_s, "threads": threads, "cpus": os.cpu_count()})
    return open_dataset(out)


def compare(scenario: Scenario, policies: Sequence[str], out: str | Location, **options: Any) -> Dataset:
    """Runs policies (``fix``, ``fix+nomerge-bio``, ``all``) on the same lanes of a scenario, the baseline first.

    Args:
        options: as for ``run``, but for ``variants``.

    Raises:
        InputError: an unknown policy, a clash of two, or a folder that cannot be used.
    """
    return run(with_policies(scenario, list(policies)), out, **options)


def rerun(dataset: Dataset | str | Location, lane_id: int, *, debug: bool = False, skip: bool = True) -> Rerun:
    """Runs one lane of a dataset alone, with its full event log, and compares it with what was stored.

    Args:
        dataset: opened, or its folder.
        lane_id: the ``id`` of its row in ``runs/``.

    Raises:
        InputError: no such lane, a damaged manifest, or a policy's source in it that nobody trusts.
    """
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    with reading(dataset.path / MANIFEST, "", "tells no scenario"):
        return _rerun(dataset, lane_id, debug, skip)


def stored_lane(dataset: Dataset | str | Location, lane_id: int) -> tuple[Scenario, dict[str, Any]]:
    """The scenario (of one variant) of a lane of a dataset, as it ran, and its row of ``runs/``.

    Args:
        dataset: opened, or its folder.
        lane_id: the ``id`` of its row in ``runs/``.

    Raises:
        InputError: no such lane, a damaged manifest, a policy's source in it that nobody trusts, or a lane larger than
            memory.
    """
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    with reading(dataset.path / MANIFEST, "", "tells no scenario"):
        rows = dataset.runs.filter(pl.col("id") == lane_id).collect()
        if rows.is_empty():
            known = dataset.runs.select(pl.len(), pl.max("id").alias("last")).collect()
            raise InputError(
                dataset.path,
                "runs",
                f"no lane {lane_id}; {plural(known['len'][0], 'lane')}, ids up to {known['last'][0]}",
            )
        row: dict[str, Any] = rows.row(0, named=True)
        own = _stored_scenario(dataset).variant(row["variant"])
        if dataset.manifest.get("kind") == "sweep":
            own = own.with_settings(_point_settings(dataset, row["point"]), "point")
        _refuse_code(own, dataset)
        refuse_too_large([own], 1)
        return own, row


def _stored_scenario(dataset: Dataset) -> Scenario:
    stored = dataset.manifest["scenario"]
    try:
        return Scenario.model_validate(stored)
    except ValidationError as error:
        raise input_error(error, dataset.path / MANIFEST, "scenario", Scenario, stored) from None


def _refuse_code(own: Scenario, dataset: Dataset) -> None:
    """As ``refuse_code``; refuses a text too that is not the one whose digest the manifest tells."""
    refuse_code(own, dataset.path / MANIFEST)
    for file in altered_texts(dataset.manifest):
        told = f"{file}: the SHA-256 is that of no text in this manifest: somebody changed one of them"
        raise InputError(dataset.path / MANIFEST, "own_policy", told)


def _rerun(dataset: Dataset, lane_id: int, debug: bool, skip: bool) -> Rerun:
    broken = [lane for lane in dataset.manifest.get("broken", []) if lane["id"] == lane_id]
    if broken:
        return _rerun_broken(dataset, broken[0], debug, skip)
    own, row = stored_lane(dataset, lane_id)
    announce_compiling()
    (result,) = run_lanes(own, [row["lane"]], seed=row["seed"], threads=1, full_events=True, debug=debug, skip=skip)
    stored = {name: row[name] for name in METRIC.names}
    # the full log holds more events, so more of them may be lost
    differing = tuple(
        name
        for name, value in zip(METRIC.names, np.asarray(result.metrics).tolist(), strict=True)
        if value != stored[name] and name != "events_lost"
    )
    return Rerun(lane_id, own, result, stored, differing, dataset.manifest["model_digest"] == model_digest())


def _rerun_broken(dataset: Dataset, lane: dict[str, Any], debug: bool, skip: bool) -> Rerun:
    """Runs a lane that broke once more, which raises if it breaks again."""
    own = _stored_scenario(dataset).variant(lane["variant"])
    _refuse_code(own, dataset)
    refuse_too_large([own], 1)
    announce_compiling()
    options: dict[str, Any] = {"seed": dataset.manifest["seed"], "threads": 1, "debug": debug, "skip": skip}
    (result,) = run_lanes(own, [lane["lane"]], full_events=True, **options)
    return Rerun(lane["id"], own, result, {}, ("state",), dataset.manifest["model_digest"] == model_digest())


def _point_settings(dataset: Dataset, point: int) -> dict[str, Any]:
    """What a point of a sweep sets on top of its variant, from the footer of a shard that holds lanes of it."""
    for shard in shard_paths(dataset.path / "runs"):
        for segment in shard_segments(shard):
            if segment.point == point:
                return segment.settings
    raise InputError(dataset.path, "runs", f"no shard tells of point {point}")


def save_events(done: Rerun, path: str | Location) -> Location:
    """Writes the event log of a lane that was run again as a Parquet file in the schema of ``events/``."""
    path = location(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name, lane = done.scenario.variants[0].name, done.result.lane
    columns = {"id": done.lane_id, "variant": name, "lane": lane}
    n = len(done.result.events)
    table = pa.table(
        {key: [value] * n for key, value in columns.items()} | event_columns(done.result.events),
        schema=EVENTS_SCHEMA.with_metadata(footer(provenance(done.scenario, done.scenario.run.seed))),
    )
    write_parquet(path, table)
    return path


def _again(out: Location, error: LaneError, own_code: bool) -> str:
    """The command that runs a lane again that failed, each tick checked."""
    words = ["fastalloc", "run", str(out / "scenario.toml"), "--debug"]
    if own_code:
        words.append("--trust")
    if error.variant:
        words += ["--variant", error.variant, "--lanes", str(error.lane + 1)]
    return shlex.join(words)


def _variant_options(variants: Sequence[str]) -> str:
    return " ".join(f"--variant {name}" for name in variants)
