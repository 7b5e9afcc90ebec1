"""What reads files that others made: each reader with files to begin from.

A reader may raise InputError or LaneError and nothing else. What it gives back is used as a command would use it.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.mutate import mutated
from tests.fuzz.tables import events_mutated, table_mutated

DATA = Path(__file__).parents[1] / "data"
RUN = DATA / "traces" / "d_stack_k612.events.parquet"
SMALL = DATA / "faults" / "a.parquet"
FUZZ = DATA / "fuzz"


class Target(NamedTuple):
    """``seeds``: files to begin from; ``read`` reads one; ``text``: words are changed too; ``repair``: what a maker
    would do to a file after a change (its checksum); ``change``: how files of the kind are changed."""

    seeds: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    text: bool
    suffix: str
    repair: Callable[[bytes], bytes] = bytes
    change: Callable[[bytes, Random, bool], bytes] = mutated


def _files(*patterns: str) -> Callable[[Path], list[Path]]:
    return lambda folder: sorted(path for pattern in patterns for path in DATA.glob(pattern) if path.is_file())


def _compact_seeds(folder: Path) -> list[Path]:
    from fastalloc.trace.compact.compact import write_trace
    from fastalloc.trace.replay.recording import read_trace

    path = folder / "small.fatrace"
    write_trace(path, read_trace(SMALL))
    return [path]


def resummed(data: bytes) -> bytes:
    """A compact trace with the checksum of what it holds."""
    digest = hashlib.blake2b(data[128:], digest_size=16).digest()
    return data[:40] + digest + data[56:] if len(data) > 128 else data


def _trace(path: Path) -> None:
    from fastalloc.trace.compact.describe import describe
    from fastalloc.trace.replay.recording import read_trace

    trace = read_trace(path)
    describe(trace)
    _ = trace.cross_cpu_frees


def _replay(path: Path) -> None:
    from fastalloc.trace.replay.recording import open_recording

    open_recording(path, None, None, "6.1", "").run(["allocator=slab"])


def _state(path: Path) -> None:
    from fastalloc.trace.replay.recording import open_recording

    open_recording(SMALL, path, None, "6.1", "").run([])


SHEAVES = ("allslabs", "sheafobjects", "sheafstate", "sheaftruth", "slabstate")


def _sheaf_seeds(folder: Path) -> list[Path]:
    """The tables beside a trace of 7.3, and the beginning of the trace."""
    import polars as pl

    run = "d_w4_k73_smp4"
    events = folder / "whole.events.parquet"
    pl.read_parquet(DATA / "traces" / f"{run}.events.parquet").head(3000).write_parquet(events)
    for name in SHEAVES:
        shutil.copy(DATA / "traces" / f"{run}.{name}.parquet", folder / f"whole.{name}.parquet")
    return [events, *(folder / f"whole.{name}.parquet" for name in SHEAVES)]


def _sheaves(path: Path) -> None:
    """A table of a 7.3 run in the place of the sound one; the others beside it."""
    from fastalloc.trace.replay.recording import beside, open_recording

    parts = path.parent / "run"
    parts.mkdir(exist_ok=True)
    for name in ("events", *SHEAVES):
        shutil.copy(path.parent / f"whole.{name}.parquet", parts / f"whole.{name}.parquet")
    which = path.name.split("@")[-1]
    shutil.copy(path, parts / (which if which.startswith("whole.") else "whole.events.parquet"))
    events = parts / "whole.events.parquet"
    open_recording(events, beside(events, "slabstate"), None, "7.3", "").run(["kernel=6.12"])


def _geometry(path: Path) -> None:
    from fastalloc.trace.replay.recording import open_recording

    open_recording(SMALL, None, path, "6.1", "").run(["order=0"])


def _readings(path: Path) -> None:
    from fastalloc.trace.replay.recording import open_recording

    open_recording(SMALL, None, None, "6.1", "", slabs=path, starts=1).run([])


def _machine(path: Path) -> None:
    from fastalloc.scenario import import_machine, machine_toml

    machine_toml(import_machine(path))


def _scenario(path: Path) -> None:
    from fastalloc.batch import refuse_unfit
    from fastalloc.scenario import load_scenario

    scenario = load_scenario(path)
    refuse_unfit([scenario.variant(variant.name) for variant in scenario.variants], 1)


def _sweep(path: Path) -> None:
    from fastalloc.sweep import plan_sweep

    plan_sweep(path)


def _workload(path: Path) -> None:
    from fastalloc.scenario.fitted import read_workload
    from fastalloc.trace.workload import generate

    generate(read_workload(path), 0.001, 1)


def _workload_seeds(folder: Path) -> list[Path]:
    from fastalloc.trace.replay.recording import read_trace
    from fastalloc.trace.workload import fit

    path = folder / "w.workload.json"
    path.write_text(json.dumps(fit(read_trace(SMALL)), indent=1))
    return [path]


def _explain(path: Path) -> None:
    from fastalloc.explain.answer import as_text
    from fastalloc.explain.log import iter_answers

    for answer in iter_answers(str(path), 20):
        as_text(answer)
        json.dumps(answer.as_json())


def _golden(path: Path) -> None:
    """One file of a golden case in the place of the sound one."""
    from fastalloc.verify.jobs import find_jobs, run_jobs

    case = path.parent / "case"
    if not case.exists():
        shutil.copytree(DATA / "golden" / "hand50", case)
    place = case / ("manifest.json" if path.suffix == ".json" else "trace.parquet")
    sound = place.read_bytes()
    place.write_bytes(path.read_bytes())
    try:
        for result in run_jobs(find_jobs(case), 1):
            if result.fault is not None:
                raise result.fault
    finally:
        place.write_bytes(sound)


def _dataset_seeds(folder: Path) -> list[Path]:
    from tests.fuzz.dataset import small_dataset

    found = small_dataset(folder / "whole")
    return [found / "manifest.json", *sorted(found.glob("*/*.parquet"))]


def _shard_seeds(folder: Path) -> list[Path]:
    """Of a dataset whose manifest tells no digests, as those of before, so that what a shard holds is looked at."""
    manifest, *shards = _dataset_seeds(folder)
    told = json.loads(manifest.read_text())
    del told["files"]
    manifest.write_text(json.dumps(told))
    return shards


def _dataset(path: Path) -> None:
    """One file of a dataset in the place of the sound one."""
    from fastalloc.report.verdict import verdict_rows, verdicts
    from fastalloc.store import open_dataset
    from fastalloc.store.doubts import doubts

    whole = path.parent / "whole"
    place = whole / path.name.split("@")[1].replace("+", "/")
    sound = place.read_bytes()
    place.write_bytes(path.read_bytes())
    try:
        dataset = open_dataset(whole)
        if not doubts(dataset):
            verdict_rows(verdicts(dataset))
    finally:
        place.write_bytes(sound)


def _policy(path: Path) -> None:
    from fastalloc.own.rewritten import rewritten
    from fastalloc.own.text import read_text
    from fastalloc.scenario import load_policy

    preset = load_policy(str(path))
    rewritten(read_text(preset.set["policy.questions"], "policy.questions"))


def _settings(path: Path) -> None:
    from fastalloc.cli.options import parse_settings
    from fastalloc.scenario import load_scenario

    words = path.read_text(encoding="utf-8", errors="replace").splitlines()
    load_scenario("swap-livelock-34m").with_settings(parse_settings(words))


TARGETS = {
    "compact-fields": Target(_compact_seeds, _replay, False, ".fatrace", resummed, events_mutated),
    "sheaves": Target(_sheaf_seeds, _sheaves, False, "", change=table_mutated),
    "state-table": Target(_files("fuzz/state/*"), _state, False, ".parquet", change=table_mutated),
    "parquet-table": Target(
        _files("faults/a.parquet", "faults/hostile-names.parquet"), _trace, False, ".parquet", change=table_mutated
    ),
    "golden-table": Target(_files("golden/hand50/trace.parquet"), _golden, False, ".parquet", change=table_mutated),
    "compact": Target(_compact_seeds, _replay, False, ".fatrace"),
    "compact-resummed": Target(_compact_seeds, _replay, False, ".fatrace", resummed),
    "parquet": Target(_files("faults/a.parquet", "faults/hostile-names.parquet"), _trace, False, ".parquet"),
    "text": Target(_files("faults/fuzz-ftrace*.txt", "fuzz/text/*", "perf/*.txt"), _trace, True, ".txt"),
    "trace-dat": Target(_files("fuzz/trace-dat/*"), _trace, False, ".dat"),
    "state": Target(_files("fuzz/state/*"), _state, False, ".parquet"),
    "geometry": Target(_files("fuzz/geometry/*"), _geometry, True, ".csv"),
    "readings": Target(_files("fuzz/readings/*", "slabinfo/*.txt"), _readings, True, ".csv"),
    "machine": Target(_files("faults/fuzz-dump*.txt", "fuzz/machine/*"), _machine, True, ".txt"),
    "scenario": Target(_files("faults/*.toml", "fuzz/scenario/*"), _scenario, True, ".toml"),
    "sweep": Target(_files("fuzz/sweep/*"), _sweep, True, ".toml"),
    "workload": Target(_workload_seeds, _workload, True, ".workload.json"),
    "explain": Target(_files("memory_reports/*/*.txt", "memory_reports/*.txt"), _explain, True, ".txt"),
    "golden": Target(_files("golden/hand50/manifest.json", "golden/hand50/trace.parquet"), _golden, True, ""),
    "dataset": Target(_dataset_seeds, _dataset, True, ""),
    "dataset-table": Target(_shard_seeds, _dataset, False, "", change=table_mutated),
    "policy": Target(_files("faults/policy*.py"), _policy, True, ".py"),
    "settings": Target(_files("fuzz/settings/*"), _settings, True, ".txt"),
}


def packed(data: bytes) -> bytes:
    """As gzip."""
    return gzip.compress(data, 1)
