"""The dataset of a sweep in its folder: manifest, locks, and what is there already."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from fastalloc.bounded import json_of
from fastalloc.errors import InputError
from fastalloc.forked import refuse_forked
from fastalloc.kernels.alloc.state import DEPTH_NAMES
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.linux.versions import kernel_near
from fastalloc.model_digest import model_digest
from fastalloc.scenario import Scenario, Varied
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.rules import rules_line, simplified
from fastalloc.store.location import Location, make_folder, whole_file, write_file
from fastalloc.store.provenance import provenance
from fastalloc.store.shards import Scan, clear_temporary, scan_shards, set_aside
from fastalloc.store.write import MANIFEST, own_file, refuse_others
from fastalloc.sweep.expand import Plan
from fastalloc.sweep.plan import Planner
from fastalloc.sweep.replays import Replay

SWEEP_FILE = "sweep.toml"


def manifest_of(plan: Plan, command: str, tables: list[str]) -> dict[str, Any]:
    """The manifest of a sweep that has not run."""
    sweep = plan.sweep
    columns = {key: column(key, plan.base) for key in sweep.varied}
    return provenance(plan.base, sweep.seed) | {
        "model_digest": model_digest(),
        "kind": "sweep",
        "sweep": {
            "id": plan.identity,
            "of": "machines" if plan.sweep.traces is None else "traces",
            "name": sweep.name,
            "file": sweep.model_dump(mode="json", exclude_none=True),
            "columns": columns,
            "varied": list(dict.fromkeys(columns.values())),
            "axes": list(dict.fromkeys(columns[key] for key in sweep.leading)),
            "points": len(plan.points),
            "excluded": plan.excluded,
            "repeated": plan.repeated,
        },
        "command": command,
        "variants": [
            {"name": variant.name, "title": variant.title, "rules": _rules(plan.base, variant.name)}
            | own_file(plan.base.variant(variant.name))  # parameters but for what an axis changes
            for variant in plan.base.variants
        ],
        "simplified": simplified([plan.base.machine]) if isinstance(plan.base, Scenario) else [],
        "lanes": sweep.lanes,
        "tables": tables,
        "status": "running",
        "depths": list(DEPTH_NAMES),
        "who": list(WHO.names),
    }


def _rules(base: Varied, name: str) -> str:
    """Whose kernel's rules run in a variant, but for what an axis changes."""
    own = base.variant(name)
    if isinstance(own, Scenario):
        return rules_line(own)
    return kernel_near(own.replay.kernel).line("slabs", "layout", "version") if isinstance(own, Replay) else ""


def stored_texts(path: Location) -> KeptTexts:
    """The texts of files of one's own that the sweep in a folder was begun with; none where it holds no sweep."""
    try:
        base = json_of(path, whole_file(path / MANIFEST))["scenario"]
        settings = [each["set"].items() for each in base["variants"]]
        varied = [{key.removeprefix("policy."): value for key, value in each} for each in settings]
        return KeptTexts([base.get("policy", {}), *varied])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return NO_TEXTS


def column(key: str, base: Varied) -> str:
    """The column of ``runs/`` that holds a field: zones go by their names there, and a list is one column."""
    parts = key.split(".")
    if isinstance(base, Scenario) and parts[:2] == ["machine", "zones"]:
        parts[2] = base.machine.zone_labels[int(parts[2])]
    while parts[-1].isdigit():
        parts.pop()
    return ".".join(parts)


class Folder:
    """A sweep's dataset on disk.

    Args:
        path: made if missing; if it holds the same sweep already, what is done is kept.
        slice_: (i, n), as of ``Planner``.

    Raises:
        InputError: it cannot be written, is in use, or holds something else.
    """

    def __init__(self, path: Location, plan: Plan, command: str, tables: list[str], slice_: tuple[int, int]) -> None:
        refuse_forked(str(path))
        self.path, self._plan, self._slice = path, plan, slice_
        self._tables = tables
        self.manifest = manifest_of(plan, command, tables)
        found = self._found()
        if found is None:
            self._refuse_others()
        for table in tables:
            make_folder(path, table)
        if found:
            self.manifest["command"] = found.get("command", command)
        else:
            write_file(path / SWEEP_FILE, whole_file(self._plan.path))
        self.write_manifest()

    def _refuse_others(self) -> None:
        """Raise InputError for rows without a manifest, and for files of somebody else."""
        runs, kept = self.path / "runs", self.path / SWEEP_FILE
        is_link = isinstance(runs, Path) and runs.is_symlink()  # which make_folder tells of
        if not is_link and runs.exists() and any(runs.iterdir()):
            raise InputError(self.path, "", "holds rows but no manifest; name another folder")
        same = kept.exists() and whole_file(kept) == whole_file(self._plan.path)  # of one that ended as it began
        refuse_others(self.path, (SWEEP_FILE,) if same else ())

    def scan(self) -> Scan:
        """What is there; what cannot be trusted, and what belongs to no finished task, is moved to ``damaged/``."""
        if self._slice[1] == 1:
            clear_temporary(self.path)
        scan = scan_shards(self.path, self._tables)
        mine = Planner(self._plan, slice_=self._slice).mine if self._slice[1] > 1 else None
        set_aside(self.path, scan.strays, mine)
        return scan

    def write_manifest(self) -> None:
        """Writes the manifest as it is."""
        write_file(self.path / MANIFEST, json.dumps(self.manifest, indent=1).encode() + b"\n")

    def _found(self) -> dict[str, Any] | None:
        file = self.path / MANIFEST
        try:
            found = json_of(file, whole_file(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(file, "", f"unreadable: {error}") from None
        if not isinstance(found, dict) or found.get("kind") != "sweep":
            raise InputError(self.path, "", "holds another dataset; name another folder")
        if found.get("model_digest") != self.manifest["model_digest"]:
            raise InputError(self.path, "", "was begun with another version of the model; name another folder")
        if not isinstance(found.get("sweep"), dict) or found["sweep"].get("id") != self._plan.identity:
            raise InputError(self.path, "", f"holds another sweep than {self._plan.path}; name another folder")
        return found


@contextmanager
def locked(path: Location, slice_: tuple[int, int]) -> Iterator[None]:
    """Holds a folder against a second process that would run the same lanes; the lock dies with the process.

    A store has no such lock: there the user sees to it. Lanes that two processes ran are found by their footers, when
    the dataset is opened or the sweep is gone on with.

    Raises:
        InputError: another process holds it.
    """
    if not isinstance(path, Path):
        yield
        return
    i, n = slice_
    with _lock_file(path / ".lock") as whole, _lock_file(path / f".lock-{i}-{n}") as part:
        try:
            fcntl.flock(whole, (fcntl.LOCK_SH if n > 1 else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(path, "", "is being filled by another process") from None
        yield


def _lock_file(path: Path) -> TextIO:
    """A file to lock, made where it is missing; a link is not followed."""
    return open(path, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))
