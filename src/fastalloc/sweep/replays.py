"""Sweeps of recorded traces: a trace is a variant, a configuration a point, an order of operations a lane."""

import hashlib
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from fastalloc.errors import InputError
from fastalloc.fields import Model
from fastalloc.memory import memory_limit, size_in_words
from fastalloc.own.allocator_text import is_allocator, read_own
from fastalloc.own.text import refuse_in_replay, refuse_parameters
from fastalloc.policy import parameters_apart
from fastalloc.scenario import Varied
from fastalloc.scenario.kept_texts import KeptTexts
from fastalloc.scenario.policy_presets import load_policy
from fastalloc.store.location import file_digest
from fastalloc.trace.compact.columns import EVENT_BYTES
from fastalloc.trace.compact.compact import EVENT
from fastalloc.trace.compact.recording_name import beside, run_of
from fastalloc.trace.lanes.lane import TRAFFIC
from fastalloc.trace.replay.drawn_orders import reordered
from fastalloc.trace.replay.prediction import predict
from fastalloc.trace.replay.recording import Recording, events_about, open_recording
from fastalloc.trace.replay.results import summary
from fastalloc.trace.replay.size import DRAWN, refuse_too_large
from fastalloc.trace.replay.whatif import AS_TRACED, with_own_file

PAGES = ("new_pages", "freed_pages", "peak_pages", "end_pages")
METRICS = (*PAGES, "peak_waste_bytes", *TRAFFIC, "cross_cpu_frees")
Number = Annotated[int, Field(ge=0, le=1 << 20)] | None


class TraceFile(Model):
    """A recorded trace; its side inputs (``RUN.slabstate``) lie beside it."""

    path: str  # as the sweep file has it
    sha256: str  # of the trace and its start state, which is what it is known by


class Settings(Model):
    """A configuration; what is not given is as traced."""

    kernel: str = "6.1"  # whose rules lay out what no table tells
    boot: str = ""  # its command line
    allocator: Literal["slub", "slab"] | None = None
    era: Literal["2.6.25", "cpu-partial", "sheaves", "7.3"] | None = None
    merging: Literal["as traced", "nomerge"] = "as traced"
    order: Number = None  # slub_max_order
    min_order: Number = None  # slub_min_order
    cpu_partial: Number = None  # slabs
    min_partial: Number = None  # slabs

    def what_if(self) -> str:
        """As ``fastalloc replay --what-if`` has it."""
        words: list[str] = [] if self.merging == "as traced" else [self.merging]
        for name in ("allocator", "era", "order", "min_order", "cpu_partial", "min_partial"):
            value = getattr(self, name)
            words += [] if value is None else [f"{name}={value}"]
        return ",".join(words)


class OwnFile(Model):
    """A policy or an allocator of one's own, its fields called as those of a scenario's policy."""

    questions: str = ""  # its text
    questions_file: str = ""
    parameters: dict[str, int] = Field(default_factory=dict)  # as set: policy.NAME

    @model_validator(mode="before")
    @classmethod
    def _own_parameters(cls, data: Any) -> Any:
        return parameters_apart(data, cls.model_fields)


class Replay(Varied):
    """Traces and how they are replayed."""

    trace: TraceFile
    replay: Settings = Settings()
    policy: OwnFile = OwnFile()

    @property
    def own(self) -> tuple[str, str, dict[str, int]]:
        """As of ``Varied``."""
        return self.policy.questions, self.policy.questions_file or "policy.questions", self.policy.parameters

    @model_validator(mode="after")
    def _consistent(self) -> "Replay":
        source, file, values = self.own
        if not source:
            return self
        text, given = read_own(source, file), self.replay.allocator
        if is_allocator(source):
            if given is not None:
                raise ValueError(f"replay.allocator: {given!r}, but {file} is an allocator of one's own")
        elif given == "slab":
            raise ValueError(f"replay.allocator: 'slab', but the questions of {file} are asked of SLUB")
        else:
            refuse_in_replay(text, {self.replay.era} if self.replay.era else set())
        refuse_parameters(text, values)
        return self


class ReplayLane(NamedTuple):
    """What a draw gave."""

    lane: int
    metrics: list[int]  # METRICS


def replay_base(name: str, traces: list[str], policies: list[str], file: Path, texts: KeptTexts) -> Replay:
    """The base of a sweep over traces: a variant for each trace, and for each policy that is replayed on it.

    Args:
        traces: paths, from the folder of the sweep file ``file``.
        policies: files of one's own, from there too, and AS_TRACED; none is AS_TRACED alone.
        texts: those that run in place of such files.

    Raises:
        InputError: a trace or a policy cannot be read, or two have one name.
    """
    variants: list[dict[str, Any]] = []
    own = [_own_file(policy, file.parent, texts) for policy in policies or [AS_TRACED]]
    for text in traces:
        path = file.parent / text
        setting = {"trace.path": text, "trace.sha256": _trace_digest(path)}
        for label, fields in own:
            called = run_of(path) + (f"+{label}" if label else "")
            title = path.name + (f" under {label}" if label else "")
            if called in [each["name"] for each in variants]:
                raise InputError(file, "traces, policies", f"two would be called {called}: give a file another name")
            variants.append({"name": called, "title": title, "set": setting | fields})
    first = variants[0]["set"]
    try:
        return Replay.model_validate(
            {
                "name": name,
                "variants": variants,
                "trace": {"path": first["trace.path"], "sha256": first["trace.sha256"]},
            }
        )
    except ValueError:
        raise InputError(file, "traces", "a name with signs other than A-Z a-z 0-9 . _ -") from None


def _own_file(policy: str, folder: Path, texts: KeptTexts) -> tuple[str, dict[str, Any]]:
    """What a policy adds to the name of a variant, and to its settings."""
    if policy == AS_TRACED:
        return "", {}
    if not policy.endswith(".py"):
        told = f"traces are replayed {AS_TRACED!r} or under files of your own, which end in .py"
        raise InputError("policies", policy, told)
    preset = load_policy(policy, folder, texts)
    return preset.name, {key: preset.set[key] for key in ("policy.questions", "policy.questions_file")}


def _trace_digest(path: Path) -> str:
    """Of a trace and its start state."""
    try:
        parts = [file_digest(part) for part in (path, beside(path, "slabstate")) if part is not None]
    except OSError as error:
        raise InputError(path, "", error.strerror or str(error)) from None
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def refuse_large_traces(base: Replay, root: Path, at_once: int) -> None:
    """Raise InputError where a trace of a sweep takes more memory than it may, decoded once and drawn anew by each of
    ``at_once`` replays."""
    limit = memory_limit()
    for path in sorted({root / str(variant.set["trace.path"]) for variant in base.variants}):
        size = events_about(path) * round(EVENT_BYTES + at_once * DRAWN * EVENT.itemsize)
        if size > limit:
            raise InputError(
                path,
                "traces",
                f"{at_once} replays at once take {size_in_words(size)}; {size_in_words(limit)} may be taken: record "
                "for a shorter time, run fewer --threads, or allow more with --memory",
            )


def parameters(base: Replay) -> dict[str, Any]:
    """Every setting under its dotted name; of a file of one's own its name and the parameters set."""
    found = {f"replay.{name}": value for name, value in base.replay.model_dump().items()}
    if base.policy.questions:
        found["policy.questions_file"] = base.own[1]
        found |= {f"policy.{name}": value for name, value in base.policy.parameters.items()}
    return found


def run_draws(base: Replay, lanes: range, root: Path, cancel: threading.Event | None = None) -> list[ReplayLane]:
    """Replays a configuration in the order of the events (lane 0) and in others that are as likely (lanes 1, 2, ...).

    Args:
        root: from where the trace's path starts.
        cancel: when set, nothing is returned.

    Raises:
        InputError: the trace cannot be read or is not the one that the sweep was planned with.
    """
    settings = base.replay
    recording = _recording(root / base.trace.path, base.trace.sha256, settings.kernel, settings.boot)
    config = recording.configs([settings.what_if()] if settings.what_if() else [])[-1]
    if base.policy.questions:
        config = with_own_file(config, *base.own)
    found = []
    for lane in lanes:
        if cancel is not None and cancel.is_set():
            return []
        trace = reordered(recording.trace, lane, recording.loose)
        refuse_too_large(trace, [config], recording.start, 1, None, 1)
        figures = summary(predict(trace, [config], recording.start)[0])
        values: Mapping[str, Any] = figures | {name: figures[name]["median"] for name in PAGES}
        found.append(ReplayLane(lane, [int(values[name]) for name in METRICS]))
    return found


_opening = threading.Lock()


def _recording(path: Path, sha256: str, kernel: str, boot: str) -> Recording:
    with _opening:
        return _opened(path, sha256, kernel, boot)


@lru_cache(maxsize=2)
def _opened(path: Path, sha256: str, kernel: str, boot: str) -> Recording:
    if _trace_digest(path) != sha256:
        raise InputError(path, "", "is not the trace that the sweep was planned with")
    return open_recording(path, beside(path, "slabstate"), None, kernel, boot)


__all__ = ["METRICS", "Replay", "ReplayLane", "parameters", "refuse_large_traces", "replay_base", "run_draws"]
