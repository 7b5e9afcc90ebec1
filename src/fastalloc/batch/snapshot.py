"""Snapshots of a lane: its arrays at one time, from which it goes on as if it had never stopped.

All state of a lane is in its arrays; the locals of ``run_lane`` are computed again by each call. Only the addresses of
an own policy's compiled answers belong to a process, and are set anew.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastalloc.batch.lane import Lane, build_lane
from fastalloc.compiler.aligned import copied
from fastalloc.errors import InputError, reading
from fastalloc.foreign import opened
from fastalloc.kernels.alloc.own.state import Own
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.step_draws import set_seed
from fastalloc.model_digest import model_digest
from fastalloc.own import lane as own_lane
from fastalloc.own.allocator import own_allocator
from fastalloc.own.compiled import own_policy, set_addresses
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.trust import refuse_code
from fastalloc.written import write_whole

STREAM_BRANCH = 96  # of rng.draw: keys of branches
_SIGNED = 1 << 63


class Snapshot(NamedTuple):
    """A lane at one time."""

    lane: int
    now_ns: int
    seed: int  # of the draws from here on
    path: tuple[tuple[int, int], ...]  # (time in ns, branch) of each new key, the first one first
    arrays: Lane  # nobody writes to them

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for _, array in named_arrays(self.arrays))


def named_arrays(lane: Lane) -> list[tuple[str, np.ndarray]]:
    """Every array of a lane with its name, ``GROUP.ARRAY``."""
    return [
        (f"{group}.{name}", getattr(member, name))
        for group, member in lane._asdict().items()
        for name in member._fields
    ]


def _rebuilt(lane: Lane, arrays: list[np.ndarray]) -> Lane:
    """A lane of the same groups with other arrays, in the order of ``named_arrays``."""
    left = iter(arrays)
    groups: list[Any] = [type(member)(*(next(left) for _ in member)) for member in lane]
    return Lane(*groups)


def take(lane: int, arrays: Lane, path: tuple[tuple[int, int], ...] = ()) -> Snapshot:
    """A snapshot of a lane between two calls of ``run_lane``; ``path`` as of the snapshot that it came from."""
    ctl = arrays.vm.ctl
    copy = _rebuilt(arrays, [copied(array) for _, array in named_arrays(arrays)])
    return Snapshot(lane, int(ctl[VM.now]), int(ctl[VM.seed]), path, copy)


def restore(snapshot: Snapshot) -> Lane:
    """A lane of its own that goes on from a snapshot."""
    return _rebuilt(snapshot.arrays, [copied(array) for _, array in named_arrays(snapshot.arrays)])


def branch(snapshot: Snapshot, number: int) -> Snapshot:
    """The snapshot with another key for all draws from here on: ``seed = hash(seed, lane, now, number)``.

    What was drawn before and is part of the state stays: the next arrival of noise, the completion of a command that
    is at the disk, the size of the file that is being copied. The lane keeps its number.
    """
    seed = branch_seed(snapshot.seed, snapshot.lane, snapshot.now_ns, number)
    arrays = restore(snapshot)
    set_seed(arrays.vm, seed)
    return snapshot._replace(seed=seed, path=(*snapshot.path, (snapshot.now_ns, number)), arrays=arrays)


def branch_seed(seed: int, lane: int, now_ns: int, number: int) -> int:
    """The key of branch ``number`` of a lane at a time, as the int64 that ``VM.seed`` holds."""
    if not 0 <= number < 1 << 16:
        raise InputError("branch", str(number), "expected 0 to 65535")
    drawn = int(rng.draw(seed, STREAM_BRANCH, lane, now_ns, number))
    return drawn - 2 * _SIGNED if drawn >= _SIGNED else drawn


def save(snapshot: Snapshot, scenario: Scenario, path: str | Path) -> None:
    """Write a snapshot with its scenario (of one variant): a Parquet file, a row an array, packed by zstd.

    Raises:
        InputError: the file cannot be written.
    """
    arrays = named_arrays(snapshot.arrays)
    told = {
        "model_digest": model_digest(),
        "scenario": scenario.model_dump(mode="json"),
        "lane": snapshot.lane,
        "now_ns": snapshot.now_ns,
        "seed": snapshot.seed,
        "path": snapshot.path,
        "content": _digest(arrays),
    }
    table = pa.table(
        {
            "array": [name for name, _ in arrays],
            "dtype": [array.dtype.str for _, array in arrays],
            "shape": [list(array.shape) for _, array in arrays],
            "content": pa.array([array.tobytes() for _, array in arrays], pa.large_binary()),
        }
    ).replace_schema_metadata({b"snapshot": json.dumps(told).encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=1, use_dictionary=False)
    write_whole(Path(path), [buffer.getbuffer()])


def load(path: str | Path) -> tuple[Snapshot, Scenario]:
    """A snapshot that ``save`` wrote, and its scenario.

    The contents must be those that were written (SHA-256), every array as the scenario makes it, and the model the
    one that wrote it: other rules read the same arrays otherwise. That is no defence against one who means harm: the
    arrays are believed, so load snapshots of your own.

    Raises:
        InputError: it is no snapshot, it is damaged, another version of the model wrote it, or it carries Python that
            nobody trusts.
    """
    with reading(path, "", "is no snapshot of a lane"):
        with opened(path, Path(path), nested=True) as file:
            table = file.read(use_threads=False)
        table.validate(full=True)
        told = json.loads((table.schema.metadata or {})[b"snapshot"])
        scenario = Scenario.model_validate(told["scenario"])
    refuse_code(scenario, path)
    if told.get("model_digest") != model_digest():
        raise InputError(path, "model_digest", "another version of the model wrote it; run the lane again instead")
    with reading(path, "", "is no snapshot of a lane"):
        fresh = build_lane(scenario, told["lane"], scenario.run.seed)
        arrays = []
        for (name, like), row in zip(named_arrays(fresh), table.to_pylist(), strict=True):
            if [name, like.dtype.str] != [row["array"], row["dtype"]] or like.ndim != len(row["shape"]):
                raise InputError(path, name, "is not as the scenario makes it")
            arrays.append(copied(np.frombuffer(row["content"], like.dtype).reshape(row["shape"])))
        lane = _rebuilt(fresh, arrays)
        if _digest(named_arrays(lane)) != told["content"]:
            raise InputError(path, "content", "is not what was written")
        steps = tuple((int(at), int(number)) for at, number in told["path"])
        snapshot = Snapshot(int(told["lane"]), int(told["now_ns"]), int(told["seed"]), steps, lane)
    _own_answers(lane, scenario)
    return snapshot, scenario


def _own_answers(lane: Lane, scenario: Scenario) -> None:
    """The addresses of the machine code of a file of one's own, in this process."""
    set_addresses(own_policy(*scenario.policy.answers), lane.mem.ctl)
    if isinstance(lane.heap, Own):
        own_lane.set_addresses(own_allocator(*scenario.policy.own), lane.heap.ctl)


def _digest(arrays: list[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
