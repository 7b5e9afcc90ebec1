"""The C twin of the replay kernel, and the same work set up for both."""

import ctypes
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from fastalloc.compiler.aligned import zeros
from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slub import slub as su
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.slub.era_7_3.sheaf_calls import add_sheaves
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, MEMCTL, SLUB_CTL, SLUB_SLAB, ZONE
from fastalloc.kernels.replay import kmem_events as kr
from fastalloc.kernels.replay.kmem_events import MET
from fastalloc.own.compiled import OwnPolicy, ask_by_slab, install
from fastalloc.trace.lanes.lane import empty_lane, unlimited_mem

SOURCE = Path(__file__).with_name("slub_twin.c")
FLAGS = ("-O3", f"-march={os.environ.get('FASTALLOC_TWIN_ARCH', 'native')}", "-shared", "-fPIC")
STATS = (*st.SLUB_STATS, *er.ERA_STATS[:6])
SETUP = np.dtype([(name, "<i4") for name in ("objects", "order", "min_partial", "era", "cpu_partial", "by_objects")])


@dataclass(frozen=True)
class Work:
    """A trace and the machine it meets: EVENT[n], SETUP[caches], KIND[kinds]; ``total`` pages a node or 0.

    ``cpu_partial`` of a cache of era 7.3 is the capacity of its sheaves.
    """

    name: str
    events: np.ndarray
    objects: int
    setup: np.ndarray
    kinds: np.ndarray
    cpus: int
    nodes: int = 1
    total: int = 0
    pages_min: int = 0

    @property
    def slabs(self) -> int:
        """Room: a slab for each object there can be at once, and the new slabs of one allocation."""
        return 2 * kr.SLAB_MARGIN + min(self.objects, len(self.events)) + 16 * len(self.setup)

    @property
    def links(self) -> int:
        """Room for the objects of all slabs."""
        return 4 * self.slabs + 16 * int(self.setup["objects"].sum())


@dataclass(frozen=True)
class Outcome:
    """What must be equal: counters, lists, pages, and where every object lies."""

    stat: np.ndarray  # int64[caches, cpus, STATS]
    node: np.ndarray  # int64[caches, nodes, 2]: partial slabs, slabs
    live: np.ndarray
    most_pages: np.ndarray
    zone: np.ndarray  # int64[nodes, 5]: used, granted, refused, given back, below pages_low
    met: np.ndarray
    handle: np.ndarray

    def same_as(self, other: "Outcome") -> bool:
        """Whether every number is the same."""
        return all(np.array_equal(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True))


class KernelRun:
    """The work before the kernel of fastalloc, with a policy of one's own if any; :meth:`run` may be called once."""

    def __init__(self, work: Work, policy: OwnPolicy | None = None) -> None:
        self.work = work
        caches = len(work.setup)
        self.mem = unlimited_mem(work.nodes, work.cpus)
        if work.total:
            self.mem.ctl[MEMCTL.model] = st.MODEL_STUB
            self.mem.zone[:, ZONE.total] = work.total
            self.mem.zone[:, ZONE.min] = work.pages_min
        if policy is not None:
            ctl = install(policy, self.mem.ctl, work.cpus, caches, work.slabs)
            ask_by_slab(policy, ctl)
            self.mem = self.mem._replace(ctl=ctl)
        most = int(work.setup["objects"].max())
        self.slub = er.SlubEras(
            cache=zeros((caches, KMEM_CACHE.width), np.int64),
            kcpu=zeros((caches, work.cpus, KMEM_CACHE_CPU.width), np.int64),
            knode=zeros((caches, work.nodes, KMEM_CACHE_NODE.width), np.int64),
            slab=zeros((work.slabs, SLUB_SLAB.width), np.int32),
            link=zeros(kr.SLAB_MARGIN * most + work.links, np.int16),
            ctl=er.ctl_with_sheaves(caches * (8 * work.cpus + 64), 60),
        )
        for array in self.slub:  # written once, as the twin's: else only the kernel's time has faults of fresh pages
            array[...] = array.copy()
        self.slub.ctl[SLUB_CTL.nodes] = work.nodes
        for c, setup in enumerate(work.setup):
            row = np.zeros(KMEM_CACHE.width, np.int64)
            row[
                [
                    KMEM_CACHE.order,
                    KMEM_CACHE.objects,
                    KMEM_CACHE.min_partial,
                    KMEM_CACHE.era,
                    KMEM_CACHE.cpu_partial,
                    KMEM_CACHE.cpu_partial_objects,
                ]
            ] = [setup[name] for name in ("order", "objects", "min_partial", "era", "cpu_partial", "by_objects")]
            row[[KMEM_CACHE.min_order, KMEM_CACHE.size]] = setup["order"], (4096 << setup["order"]) // setup["objects"]
            row[[KMEM_CACHE.sheaf_capacity, KMEM_CACHE.sheaf_cache]] = setup["cpu_partial"], -1
            row[[KMEM_CACHE.max_full, KMEM_CACHE.max_empty]] = er.MAX_FULL_SHEAVES, er.MAX_EMPTY_SHEAVES
            su.init_cache(self.slub, c, row)
            if setup["era"] == er.ERA_PERCPU_SHEAVES:
                add_sheaves(self.mem, self.slub, c, 0, 0, 0)
        kinds = work.kinds
        self.lane = empty_lane(work.objects, kinds["cache"], kinds["node"], kinds["gfp"], caches, np.zeros(0, np.int64))
        self.events = kr.events_of(work.events)

    def run(self) -> None:
        """All events."""
        row, stop = 0, len(self.work.events)
        if kr.follow(self.mem, self.slub, self.events, self.lane, row, stop) != stop:
            raise SystemExit("the arrays of the benchmark are too small")

    def outcome(self) -> Outcome:
        """What the work came to."""
        kcpu = self.slub.kcpu
        first = kcpu[:, :, KMEM_CACHE_CPU.stats[:]]
        later = kcpu[:, :, KMEM_CACHE_CPU.era_stats[: len(STATS) - len(st.SLUB_STATS)]]
        zone = self.mem.zone[:, [ZONE.used, ZONE.alloc_ok, ZONE.alloc_fail, ZONE.frees, ZONE.below_low]]
        return Outcome(
            np.concatenate([first, later], axis=2),
            self.slub.knode[:, :, [KMEM_CACHE_NODE.nr_partial, KMEM_CACHE_NODE.nr_slabs]],
            self.lane.live,
            self.slub.cache[:, KMEM_CACHE.max_pages],
            zone,
            self.lane.met[: MET.sample],
            self.lane.handle,
        )


@cache
def library() -> ctypes.CDLL:
    """The twin, built now by the system's compiler."""
    folder = tempfile.mkdtemp(prefix="fastalloc-twin-")
    return _load(build(Path(folder) / "slub_twin.so"))


def build(target: Path, flags: tuple[str, ...] = FLAGS) -> Path:
    """Compile the twin to ``target``."""
    try:
        subprocess.run(["cc", *flags, "-o", str(target), str(SOURCE)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(SOURCE, "", f"the system's C compiler did not build it: {error}") from None
    return target


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    loaded.twin_new.restype = ctypes.c_void_p
    loaded.twin_follow.restype = ctypes.c_int64
    return loaded


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class TwinRun:
    """The work before the C twin."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.lib = library()
        self.setup = np.ascontiguousarray(work.setup)
        self.kinds = np.ascontiguousarray(work.kinds)
        self.events = np.ascontiguousarray(work.events)
        shift = int(unlimited_mem(work.nodes, work.cpus).ctl[MEMCTL.cpu_node_shift])
        numbers = (
            work.objects,
            work.slabs - kr.SLAB_MARGIN,
            work.links,
            int(work.total > 0),
            work.total,
            work.pages_min,
        )
        self.twin = ctypes.c_void_p(
            self.lib.twin_new(
                ctypes.c_int32(len(work.setup)), _at(self.setup), ctypes.c_int32(work.cpus), ctypes.c_int32(work.nodes),
                ctypes.c_int32(min(shift, 31)), *map(ctypes.c_int64, numbers),
            )
        )  # fmt: skip

    def run(self) -> None:
        """All events."""
        rows = len(self.events)
        if self.lib.twin_follow(self.twin, _at(self.events), ctypes.c_int64(rows), _at(self.kinds)) != rows:
            raise SystemExit("the arrays of the benchmark are too small")

    def outcome(self) -> Outcome:
        """What the work came to."""
        caches, cpus, nodes = len(self.work.setup), self.work.cpus, self.work.nodes
        outcome = Outcome(
            np.zeros((caches, cpus, len(STATS)), np.int64),
            np.zeros((caches, nodes, 2), np.int64),
            np.zeros(caches, np.int64),
            np.zeros(caches, np.int64),
            np.zeros((nodes, 5), np.int64),
            np.zeros(MET.sample, np.int64),
            np.zeros(self.work.objects, np.int64),
        )
        self.lib.twin_read(self.twin, *map(_at, vars(outcome).values()), ctypes.c_int64(self.work.objects))
        return outcome

    def __del__(self) -> None:
        self.lib.twin_free(self.twin)
