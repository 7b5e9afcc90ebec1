"""The library calls: what the commands do, with names and paths as they take them, and frames as results."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastalloc.errors import InputError
from fastalloc.threads import threads_of

if TYPE_CHECKING:
    import polars as pl

    from fastalloc.replayed import Replay, Trace
    from fastalloc.scenario import PolicyPreset, Scenario
    from fastalloc.store import Dataset
    from fastalloc.store.location import Location
    from fastalloc.sweep.frontier import Frontier

Settings = Mapping[str, Any]


def run(
    scenario: "Scenario | str | Path",
    out: "str | Location | None" = None,
    *,
    variants: str | Sequence[str] | None = None,
    lanes: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> "Dataset":
    """Runs the variants of a scenario side by side, or opens what an equal run left.

    Args:
        scenario: a preset's name, a TOML file's path, or a ``Scenario``; a machine alone (a name, or the file that
            ``fastalloc machine import`` wrote) is run under a load that its ``description`` tells.
        out: folder of the dataset, or ``s3://BUCKET/PREFIX``; by default ``out/NAME``. Where it holds the same run of
            this version it is opened, and nothing is run.
        variants: names, or one name; by default those that run when none is asked for.
        lanes: simulated machines a variant.
        seconds: simulated time of a lane.
        seed: of all randomness.
        settings: fields by dotted name, as ``--set`` takes them: ``{"workload.copiers": 24}``.
        options: ``threads``, ``debug``, ``skip``, ``command``, ``progress`` and ``cancel`` of ``runner.run``.

    Raises:
        InputError: a name, field or value that cannot be used; a folder that holds another run, with what differs.
        LaneError: a lane failed.

    Example:
        >>> import fastalloc
        >>> dataset = fastalloc.run("swap-livelock-34m", "out/small", variants=["rc8", "fix"], lanes=4, seconds=8)
        >>> dataset
        Dataset out/small: swap-livelock-34m, 4 lanes of 8 s under each of rc8, fix (complete)
        >>> dataset.runs.filter(variant="fix").select("lane", "livelock_5s").collect().shape
        (4, 2)
    """
    from fastalloc.store.location import location

    loaded = _loaded(scenario, {"run.lanes": lanes, "run.duration_s": seconds, "run.seed": seed}, settings)
    if variants is None:
        variants = [variant.name for variant in loaded.variants if variant.default]
    elif isinstance(variants, str):
        variants = [variants]
    return _run_or_open(loaded, list(dict.fromkeys(variants)), location(out or f"out/{loaded.name}"), options)


def compare(
    scenario: "Scenario | str | Path",
    policies: str | Sequence[str] = "all",
    out: "str | Location | None" = None,
    *,
    lanes: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> "Dataset":
    """Runs policies on the same lanes of a scenario, the baseline ``rc8`` first, or opens what an equal run left.

    Args:
        policies: names or paths of own ones (``fix``, ``fix+nomerge-bio``, ``mine.py``), or ``all``.
        out: by default ``out/NAME-policies``; the others as of ``run``.

    Raises:
        InputError: as ``run``; an unknown policy, or two that clash.

    Example:
        >>> import fastalloc
        >>> board = fastalloc.compare("swap-livelock-34m", ["fix"], "out/board", lanes=4, seconds=8)
        >>> board.board.select("policy", "lanes").rows()
        [('rc8', 4), ('fix', 4)]
    """
    from fastalloc.store.location import location

    asked = policies.split(",") if isinstance(policies, str) else list(policies)
    loaded = _loaded(scenario, {"run.lanes": lanes, "run.duration_s": seconds, "run.seed": seed}, settings, asked)
    names = [variant.name for variant in loaded.variants]
    return _run_or_open(loaded, names, location(out or f"out/{loaded.name}-policies"), options)


def sweep(file: str | Path, out: "str | Location | None" = None, **options: Any) -> "Dataset":
    """Runs what is missing of a sweep file into a dataset, and on from where it stopped, by the texts of files of one's
    own that it was begun with: it warns of those that hold another one now.

    Args:
        file: the sweep's TOML.
        out: folder of the dataset; by default ``out/NAME``.
        options: as of ``fastalloc.sweep.run_sweep``: threads, shard, executor ...

    Raises:
        InputError: a sweep that cannot be run, or a folder that holds another one; nothing was finished.

    Example:
        >>> import fastalloc
        >>> dataset = fastalloc.sweep("reserve.toml", "out/reserve")
        >>> dataset.points.columns
        ['point', 'variant', 'machine.min_free_kbytes', 'lanes', 'livelocks', 'share', 'low', 'high']
    """
    from fastalloc.progress import SweepBar, shown
    from fastalloc.sweep import plan_into, run_sweep

    plan, folder, others = plan_into(Path(file), out)
    for line in others:
        warnings.warn(line, stacklevel=2)
    with shown(options, SweepBar):
        found = run_sweep(plan, folder, **options)
    if found is None:
        raise InputError(str(file), "", "nothing of the sweep was finished")
    return found


def frontier(
    scenario: "Scenario | str | Path",
    of: str,
    below: float = 0.05,
    *,
    between: tuple[int, int] | None = None,
    variant: str | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> "Frontier":
    """Searches for the value of a field from which on the livelock is rarer than ``below``.

    Args:
        of: dotted name of an integer field, or ``pages_min``.
        between: a value with the livelock and one without; by default they are searched for.
        variant: of the scenario; by default its first.
        seconds: simulated time of a lane.
        seed: of all randomness.
        settings: fields by dotted name.
        options: ``lanes``, ``most_lanes``, ``confidence``, ``threads``, ``tell`` of ``fastalloc.sweep.frontier``.

    Raises:
        InputError: no such field, a value is refused, or the ends are in the wrong order.

    Example:
        >>> import fastalloc
        >>> found = fastalloc.frontier("swap-livelock-34m", "machine.min_free_kbytes", 0.4, between=(24, 400),
        ...                            lanes=8, most_lanes=8, seconds=6)
        >>> found.key
        'machine.min_free_kbytes'
    """
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.sweep.frontier import frontier as search

    loaded = _loaded(scenario, {"run.duration_s": seconds, "run.seed": seed}, settings)
    own = loaded.variant(variant or loaded.variants[0].name)
    low, high = between or (None, None)
    announce_compiling()
    return search(own, of, low, high, below, **options)


def replay(
    path: str | Path, what_if: str | Sequence[str] = (), *, draws: int = 1, threads: int = 0, **opened: Any
) -> "Replay":
    """Replays a recorded trace under the rules of the kernel that was traced, and under others.

    Args:
        path: a folder of ``fastalloc record``, or a trace of any format.
        what_if: configurations beside it: ``nomerge``, ``order=0``, ``era=sheaves``, or one of them; commas join
            settings.
        draws: orders of operations to try.
        threads: configurations at once; 0 is one a CPU.
        opened: ``kernel``, ``boot``, ``state``, ``slabs``, ``geometry`` and ``strict`` of ``open_recording``.

    Raises:
        InputError: a file that is no trace, or a what-if that the trace cannot answer.

    Example:
        >>> import fastalloc
        >>> found = fastalloc.replay("run.events.parquet", ["nomerge"], kernel="6.12")
        >>> found.summary["config"].to_list()
        ['as traced', 'nomerge']
        >>> found.caches.columns[:3]
        ['config', 'cache', 'size']
    """
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.replayed import Replay
    from fastalloc.trace.replay.folder import kernel_told, recorded
    from fastalloc.trace.replay.recording import open_recording, side_inputs

    announce_compiling()
    found = recorded(Path(path))
    file = found.trace
    given = {key: None if value is None else Path(value) for key, value in opened.items() if key in _FILES}
    state, slabs = side_inputs(file, given.get("state"), given.get("slabs"))
    kernel, boot = kernel_told(found, opened.get("kernel")), opened.get("boot") or found.boot or ""
    recording = open_recording(
        file, state, given.get("geometry"), kernel, boot, opened.get("strict", False), slabs, origin=found
    )
    return Replay(
        recording,
        recording.run([what_if] if isinstance(what_if, str) else list(what_if), draws, None, threads_of(threads)),
    )


_FILES = ("state", "slabs", "geometry")


def trace(path: str | Path) -> "Trace":
    """Opens a recorded trace of any format.

    Raises:
        InputError: a file that is no trace.

    Example:
        >>> import fastalloc
        >>> found = fastalloc.trace("run.events.parquet")
        >>> found.caches.columns[:3]
        ['cache', 'allocs', 'frees']
        >>> found.holders("cache").columns[0]
        'holder'
    """
    from fastalloc.replayed import Trace
    from fastalloc.trace.replay.folder import recorded
    from fastalloc.trace.replay.recording import read_trace

    found = recorded(Path(path))
    return Trace(read_trace(found.trace, opened=found.opened))


def policies(name: str | None = None) -> "pl.DataFrame | PolicyPreset":
    """The policies that can be compared, a row each, or one of them.

    Columns: ``policy``, ``section`` (its letter in the documentation), ``title``, ``prevents`` (sense failures),
    ``guarantees`` (commands in flight that nobody else's demand for memory ends), ``source``.

    Raises:
        InputError: no such policy.

    Example:
        >>> import fastalloc
        >>> fastalloc.policies().filter(section="C2").select("policy", "source").row(0)
        ('fix', 'Linux 2.6.25-rc9, 164fc5dc')
        >>> fastalloc.policies("fix").set
        {'policy.command_rule': 'fix'}
    """
    import polars as pl

    from fastalloc.scenario import load_policy, policy_names

    if name is not None:
        return load_policy(name)
    rows = []
    for preset in map(load_policy, policy_names()):
        verdict = (preset.verdict.prevents, preset.verdict.guarantees) if preset.verdict else (None, None)
        rows.append((preset.name, preset.section, preset.title, *verdict, preset.source))
    columns = ("policy", "section", "title", "prevents", "guarantees", "source")
    return pl.DataFrame(rows, dict.fromkeys(columns, pl.String), orient="row")


def scenarios() -> "pl.DataFrame":
    """The presets with their variants, a row each: ``scenario``, ``variant``, ``title``, ``default``.

    Example:
        >>> import fastalloc
        >>> fastalloc.scenarios().filter(scenario="swap-livelock", default=True)["variant"].to_list()
        ['rc8', 'fix', 'nomerge', 'ctor']
    """
    import polars as pl

    from fastalloc.scenario import load_scenario, preset_names

    rows = [
        (name, variant.name, variant.title, variant.default)
        for name in preset_names()
        for variant in load_scenario(name).variants
    ]
    return pl.DataFrame(rows, ["scenario", "variant", "title", "default"], orient="row")


def caches(size: int | Sequence[int], kernel: str = "6.12", *, boot: str = "", cpus: int = 8) -> "pl.DataFrame":
    """Where objects of a size lie under a kernel's rules: kmalloc, or a cache of their own; a row a choice.

    Raises:
        InputError: a kernel or boot option that is not known, or a size that no cache takes.

    Example:
        >>> import fastalloc
        >>> fastalloc.caches(2312, "6.12")["cache"].to_list()[0]
        'kmalloc-4k'
    """
    import polars as pl

    from fastalloc.explain.caches.answer import answer
    from fastalloc.explain.caches.setting import setting

    if isinstance(size, str):
        raise InputError("--size", size, "must be a whole number of bytes, or a list of them")
    sizes = [size] if isinstance(size, int) else list(size)
    found = answer(setting(kernel, boot, cpus, 1, 4096, 64, 64), sizes, [], [], (False, False))
    rows = [
        {"object": bytes_, **{key: value for key, value in row.items() if not isinstance(value, dict | list)}}
        for bytes_, told in zip(sizes, found["sizes"], strict=True)
        for row in told["choices"]
    ]
    return pl.DataFrame(rows)


def report(dataset: "Dataset | str | Location", path: "str | Location | None" = None) -> "Location":
    """Writes the report of a dataset, one HTML file that needs no network, and returns its path.

    Args:
        dataset: of a run, a comparison or a sweep; opened, or its folder.
        path: by default ``report.html`` in its folder.

    Raises:
        InputError: a dataset that cannot be read, or a file that cannot be written.

    Example:
        >>> import fastalloc
        >>> dataset = fastalloc.run("swap-livelock-34m", "out/told", variants=["fix"], lanes=2, seconds=3)
        >>> fastalloc.report(dataset).name
        'report.html'
    """
    from fastalloc.report.html import write_report
    from fastalloc.report.sweep import is_of_traces, is_sweep
    from fastalloc.store import Dataset, open_dataset
    from fastalloc.store.doubts import doubts

    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if not is_sweep(opened):
        return write_report(opened, path, doubts(opened))
    if is_of_traces(opened):
        from fastalloc.report.replays_page import write_replays_report

        return write_replays_report(opened, path)
    from fastalloc.report.sweep_page import write_sweep_report

    return write_sweep_report(opened, path, [])


def _loaded(
    scenario: "Scenario | str | Path", named: Settings, settings: Settings | None, policies: Sequence[str] | None = None
) -> "Scenario":
    """The scenario with what was asked for set, ``policies`` in place of its variants."""
    from fastalloc.scenario import Scenario, load_scenario
    from fastalloc.scenario.chosen import with_chosen
    from fastalloc.scenario.machines import is_machine

    if isinstance(scenario, Scenario):
        loaded = scenario
    elif is_machine(scenario):
        from fastalloc.batch.pressed import machine_alone

        loaded = machine_alone(scenario)[0]
    else:
        loaded = load_scenario(scenario)
    asked = {**(settings or {}), **{key: value for key, value in named.items() if value is not None}}
    return with_chosen(loaded, asked, Path(), "settings", policies)


def _run_or_open(scenario: "Scenario", names: list[str], out: "Location", options: dict[str, Any]) -> "Dataset":
    from fastalloc import runner
    from fastalloc.progress import RunBar, shown
    from fastalloc.store import open_dataset
    from fastalloc.store.write import MANIFEST

    if (out / MANIFEST).exists():
        there = open_dataset(out)
        differing = _differing(there, scenario, names)
        if differing:
            more = f", and {len(differing) - 4} more" if len(differing) > 4 else ""
            raise InputError(out, "", f"holds another run: {'; '.join(differing[:4])}{more}; name another folder")
        return there
    with shown(options, RunBar):
        return runner.run(scenario, out, variants=names, **options)


def _differing(there: "Dataset", scenario: "Scenario", names: list[str]) -> list[str]:
    """What a dataset has otherwise than a run that is asked for, in words."""
    from fastalloc.model_digest import model_digest

    manifest = there.manifest
    found = []
    if manifest["status"] != "complete":
        found.append(f"it is {manifest['status']}")
    if manifest["model_digest"] != model_digest():
        found.append(f"made by another version of the model, {manifest['version']}")
    before = [variant["name"] for variant in manifest["variants"]]
    if before != names:
        found.append(f"variants {', '.join(before)}, not {', '.join(names)}")
    old, new = _flat(manifest["scenario"]), _flat(scenario.model_dump(mode="json", exclude_none=True))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return found + [f"{key} {old.get(key)}, not {new.get(key)}" for key in keys]


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables and lists by dotted name."""
    if isinstance(data, Mapping):
        items = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, list):
        items = [(str(i), value) for i, value in enumerate(data)]
    else:
        return {prefix: data}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return found
