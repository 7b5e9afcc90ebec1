"""Random cases in the golden format: operations in many structures, the expected tables made by the reference models.

A case is a list of phases. A phase has a kind (what operations it mixes, in which order objects die, which CPUs work)
and a seed for everything else, so a case that fails is made smaller by dropping and shortening phases.
"""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from fastalloc.kernels.replay.operations import OPS
from fastalloc.verify.golden import BUILD, KEYS, CaseResult, verify_build
from fastalloc.verify.golden_case import COLUMNS, CPUS, LATER_BUILD, read_case
from tests.reference.cpu_partial_machine import CpuPartialMachine
from tests.reference.machine import Machine
from tests.reference.sheaf_machine import SheafMachine
from tests.reference.slab_machine import SlabMachine, start_state
from tests.reference.slob_machine import SlobMachine
from tests.reference.slub_machine import SlubMachine

BASES = Path(__file__).parents[1] / "data" / "golden"
# Where SLAB's boot comes from: a recorded case, whose caches are the first of the generated one.
SLAB_BASE = {1: ("hand50", "slab64"), 2: ("numa2_oom", "slab64_numa2")}
ONE_NODE = ("slub64", "slub64_nodebug", "slub128", "slab64", "slob64", "slob128")
TWO_NODES = ("slub64_numa2", "slab64_numa2")

SIZES = (8, 24, 40, 64, 96, 104, 128, 200, 256, 300, 520, 700, 1024, 1100, 1300, 1700, 2048, 3000, 4088, 4096)
SIZES += (5000, 8192, 9000, 20000, 140000)
KMALLOC_SIZES = (1, 8, 33, 64, 65, 96, 97, 128, 129, 192, 193, 247, 248, 256, 500, 512, 1015, 1016, 1024, 1025)
KMALLOC_SIZES += (2000, 2048, 2049, 4000, 4080, 4087, 4088, 4089, 4095, 4096, 4097, 5000, 8192, 8193, 20000, 131073)
FLAGS = (0x2000, 0x4000, 0x20000, 0x80000, 0x100000)  # HWCACHE_ALIGN, CACHE_DMA, RECLAIM_ACCOUNT, RCU, MEM_SPREAD
GFP = (0xD0, 0xD0, 0xD0, 0x20, 0x0, 0x10, 0x50, 0xF0, 0x80D0, 0x11200, 0x11220, 0x112D0, 0x10020, 0x12D0, 0x40D0)
NODE_GFP = (0x400D0, 0x412D0, 0x41200)  # THISNODE, with NORETRY and NOWARN or without

# Weights of what a phase does.
MIXES = {
    "objects": {"alloc": 50, "free": 46, "checkpoint": 1},
    "kmalloc": {"kmalloc": 50, "free": 46, "checkpoint": 1},
    "mixed": {"alloc": 25, "kmalloc": 20, "free": 42, "pages": 3, "shrink": 2, "flush": 3, "reap": 3, "checkpoint": 1},
    "churn": {"alloc": 40, "free": 30, "create": 14, "destroy": 12, "shrink": 2, "flush": 1, "kmalloc": 4},
    "pools": {"pool_alloc": 40, "free": 40, "resize": 5, "hold": 4, "alloc": 5, "kmalloc": 5, "checkpoint": 1},
    "pressure": {"alloc": 25, "kmalloc": 20, "pages": 8, "free": 30, "hold": 8, "setmin": 3, "shrink": 3, "create": 3,
                 "destroy": 2, "pool_alloc": 6, "resize": 2, "reap": 2, "flush": 2, "checkpoint": 1},
    "quiet": {"free": 60, "shrink": 8, "flush": 8, "reap": 20, "checkpoint": 4},
}  # fmt: skip
DEATHS = ("fifo", "lifo", "random", "comb")  # comb: one here, one there, so that many slabs are partly free


@dataclass(frozen=True)
class Phase:
    """``steps`` operations of one kind."""

    kind: str
    seed: int
    steps: int


@dataclass(frozen=True)
class Spec:
    """A case before it is spelt out."""

    seed: int
    nodes: int
    phases: tuple[Phase, ...]
    destroys_any: bool = False  # also caches that exist before the trace, which SLAB's recorded start does not allow


def random_spec(seed: int) -> Spec:
    """A case from a number."""
    rng = random.Random(seed)
    phases = tuple(
        Phase(rng.choice(list(MIXES)), rng.randrange(1 << 30), rng.choice((10, 40, 150, 400, 1500)))
        for _ in range(rng.randint(0, 6))
    )
    return Spec(rng.randrange(1 << 30), 2 if rng.random() < 0.4 else 1, phases, rng.random() < 0.2)


class Writer:
    """The rows of a trace, and what is alive at their end."""

    cpus = CPUS
    mixes, masks = MIXES, GFP

    def __init__(self, spec: Spec, caches: list[dict], pools: list[dict], limited: bool, free: int):
        self.spec, self.caches, self.pools, self.free_pages, self.limited = spec, caches, pools, free, limited
        self.rows: list[tuple[int, ...]] = []
        self.alive = {i for i, cache in enumerate(caches) if cache["created"] == "setup"}
        self.doomed = {i for i, c in enumerate(caches) if c["created"] != "setup" or spec.destroys_any}
        self.doomed -= {pool["param"] for pool in pools if pool["kind"] == "slab"}
        self.objects: list[tuple[str, int, int]] = []  # freeing operation, cache or pool, id
        self.ids = 0
        self.jiffies = 0
        self.comb = 0
        self.favourites: list[int] = []  # caches and sizes that a phase prefers
        self.sizes: list[int] = []

    def row(self, op, cpu, cache=-1, obj=-1, gfp=0, ctx=0, arg=-1):
        self.rows.append((OPS.index(op), cpu, cache, obj, gfp, ctx, arg))

    def new(self, op, free_op, cpu, cache, gfp, ctx, arg=-1):
        self.row(op, cpu, cache, self.ids, gfp, ctx, arg)
        self.objects.append((free_op, cache, self.ids))
        self.ids += 1

    def phase(self, phase: Phase) -> None:
        rng = random.Random(phase.seed)
        death = rng.choice(DEATHS)
        cpus = range(self.cpus)
        makers = rng.sample(cpus, min(rng.choice((1, 1, 2, 4, 8)), self.cpus))
        breakers = makers if rng.random() < 0.5 else rng.sample(cpus, min(rng.choice((1, 2, 4)), self.cpus))
        mix = dict(self.mixes[phase.kind])
        most = rng.choice((5, 30, 200, 1500))
        if self.limited and rng.random() < 0.3:
            self.row("HOLD", makers[0], arg=0)
        self.favourites = rng.sample(range(len(self.caches)), min(len(self.caches), rng.randint(1, 4)))
        self.sizes = rng.sample(KMALLOC_SIZES, 3)
        hard = phase.kind in ("pressure", "pools") or rng.random() < 0.2
        left = phase.steps
        while left > 0:
            (action,) = rng.choices(list(mix), list(mix.values()))
            burst = rng.choice((1, 1, 1, 4, 12, 40, 150))
            if action == "free" or len(self.objects) > most:
                self.kill(rng, burst, death, breakers)
            elif action in ("alloc", "kmalloc", "pool_alloc"):
                for _ in range(burst):
                    self.make(rng, action, rng.choice(makers), hard)
            else:
                self.rare(rng, action, rng.choice(makers))
            left -= burst
        if rng.random() < 0.7:
            self.row("CKPT", 0)

    def mask(self, rng, hard) -> tuple[int, int]:
        if not hard:
            return 0xD0, 0
        choices = self.masks + NODE_GFP if self.spec.nodes > 1 else self.masks
        return rng.choice(choices), rng.choice((0, 0, 0, 0, 1, 2, 3))

    def make(self, rng, action, cpu, hard) -> None:
        gfp, ctx = self.mask(rng, hard)
        usable = [i for i in self.favourites if i in self.alive]
        if action == "pool_alloc" and self.pools:
            self.new("MPALLOC", "MPFREE", cpu, rng.randrange(len(self.pools)), gfp & ~0x40000, ctx)
        elif action == "alloc" and usable:
            node = rng.randrange(self.spec.nodes) if rng.random() < 0.2 else -1
            self.new("ALLOC", "FREE", cpu, rng.choice(usable), gfp, ctx, node)
        else:
            size = rng.choice((rng.choice(self.sizes), rng.choice(self.sizes), rng.choice(KMALLOC_SIZES)))
            size = size if rng.random() < 0.9 else rng.randint(1, 6000)
            self.new("KMALLOC", "KFREE", cpu, -1, gfp, ctx, size)

    def kill(self, rng, burst, death, cpus) -> None:
        for _ in range(min(burst, len(self.objects))):
            self.comb = (self.comb + 17) % len(self.objects)
            at = {"fifo": 0, "lifo": -1, "random": rng.randrange(len(self.objects)), "comb": self.comb}[death]
            op, cache, obj = self.objects.pop(at)
            self.row(op, rng.choice(cpus), cache, obj)

    def rare(self, rng, action, cpu) -> None:
        ctx = rng.choice((0, 0, 0, 1))
        alive = sorted(self.alive)
        node = rng.choice((-1, *range(self.spec.nodes)))
        if action == "pages":
            self.new("PGALLOC", "PGFREE", cpu, -1, *self.mask(rng, True), rng.choice((0, 0, 0, 1, 2, 3, 5, 10, 11)))
        elif action == "shrink" and alive:
            self.row("SHRINK", cpu, rng.choice(alive), ctx=ctx)
        elif action == "flush":
            self.row("FLUSH", cpu, rng.choice((-1, *alive)))
        elif action == "reap":
            self.jiffies += rng.choice((0, 1, 500, 2000, 4000, 9000))
            self.row("REAP", cpu, arg=self.jiffies)
        elif action == "hold" and self.limited:
            about = self.free_pages + rng.randint(-12, 6)
            self.row("HOLD", cpu, node, arg=max(0, rng.choice((0, 0, about, about, 2 * about, self.free_pages // 2))))
        elif action == "setmin" and self.limited:
            self.row("SETMIN", cpu, node, arg=rng.choice((0, 0, 1, 3, 4, 7, rng.randint(0, 40))))
        elif action == "resize" and self.pools:
            gfp, ctx = self.mask(rng, True)
            new = rng.choice((1, 2, 3, 5, 9, 20, 600))
            self.row("MPRESIZE", cpu, rng.randrange(len(self.pools)), gfp=gfp & ~0x40000, ctx=ctx, arg=new)
        elif action == "create" and len(alive) < len(self.caches):
            index = rng.choice([i for i in range(len(self.caches)) if i not in self.alive])
            self.alive.add(index)
            self.favourites.append(index)
            self.row("CREATE", cpu, index, ctx=ctx)
        elif action == "destroy" and self.alive & self.doomed:
            index = rng.choice(sorted(self.alive & self.doomed))
            for obj in [o for o in self.objects if o[0] == "FREE" and o[1] == index]:
                self.objects.remove(obj)
                self.row("FREE", rng.randrange(self.cpus), index, obj[2])
            self.alive.remove(index)
            self.row("DESTROY", cpu, index)
        elif action == "checkpoint":
            self.row("CKPT", cpu)


def base_caches(nodes: int) -> list[dict]:
    """The caches that SLAB's recorded start holds."""
    return json.loads((BASES / SLAB_BASE[nodes][0] / "manifest.json").read_text())["caches"]


def manifest_of(spec: Spec) -> dict:
    """Caches, pools and memory of a case."""
    rng = random.Random(spec.seed)
    caches = base_caches(spec.nodes)
    for k in range(rng.randint(0, 12)):
        size = rng.choice(SIZES) if rng.random() < 0.7 else rng.randint(1, 5000)
        caches.append(
            {
                "index": len(caches),
                "name": f"cache{k}",
                "size": size,
                "align": rng.choice((0, 0, 0, 0, 8, 16, 32, 64, 128, 256)),
                "flags": hex(sum(flag for flag in FLAGS if rng.random() < 0.15)),
                "ctor": rng.random() < 0.3,
                "created_on_cpu": rng.randrange(CPUS),
                "created": rng.choice(("setup", "trace", "trace")),
            }
        )
    pools = []
    for k in range(rng.choice((0, 1, 2, 3))):
        kind = rng.choice(("slab", "slab", "kmalloc", "kmalloc", "pages"))
        setup = [cache["index"] for cache in caches if cache["created"] == "setup"]
        param = {"slab": setup, "kmalloc": KMALLOC_SIZES, "pages": (0, 1, 3)}[kind]
        pools.append(
            {
                "index": k,
                "name": f"pool{k}",
                "kind": kind,
                "param": rng.choice(param),
                "min_nr": rng.choice((1, 2, 2, 4, 8, 40)),
                "created_on_cpu": rng.randrange(CPUS),
            }
        )
    limited = rng.random() < 0.7
    free = rng.choice((0, 12, 40, 40, 150, 150, 600, 2000)) if limited else 0
    least = rng.choice((0, 4, 8, 33)) if limited else 0
    memory = {"mode": "limited" if limited else "unlimited"}
    memory |= {"free_pages_at_start_per_node": free, "pages_min_per_node": least}
    return {"case": f"generated {spec.seed}", "memory": memory, "caches": caches, "pools": pools}


def builds_of(spec: Spec) -> tuple[str, ...]:
    """The builds that a case may run on."""
    builds = TWO_NODES if spec.nodes == 2 else ONE_NODE
    return tuple(build for build in builds if not (spec.destroys_any and build.startswith("slab")))


def write_case(spec: Spec, folder: Path) -> None:
    """Manifest and trace, and empty folders for the builds."""
    manifest = manifest_of(spec)
    memory = manifest["memory"]
    free = memory["free_pages_at_start_per_node"]
    writer = Writer(spec, manifest["caches"], manifest["pools"], memory["mode"] == "limited", free)
    for phase in spec.phases:
        writer.phase(phase)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    schema = dict.fromkeys(COLUMNS, pl.Int64)
    pl.DataFrame(writer.rows, schema=schema, orient="row").write_parquet(folder / "trace.parquet")
    for build in builds_of(spec):
        (folder / build).mkdir(exist_ok=True)
        (folder / build / "ops.parquet").touch()


def machine_of(case, build: str) -> Machine:
    """The model of a build, set up; SLAB's start is written down beside its tables."""
    kind, line, nodebug, numa = BUILD.fullmatch(build).groups()
    nodes = 2 if numa else 1
    if kind == "slub":
        machine: Machine = SlubMachine(case, nodes, int(line), not nodebug)
    elif kind == "slob":
        machine = SlobMachine(case, int(line))
    else:
        base = BASES / "/".join(SLAB_BASE[nodes]) / "init.json"
        bare = replace(case, pools=())
        slab = SlabMachine(bare, nodes, int(line), json.loads(base.read_text()), len(base_caches(nodes)))
        slab.case = case
        slab.setup()
        (case.path / build / "init.json").write_text(json.dumps(start_state(slab)))
        return slab
    machine.setup()
    return machine


def write_expected(case, build: str) -> None:
    """The tables of a build, made by its model."""
    later = LATER_BUILD.fullmatch(build)
    if later:
        model = SheafMachine if later[1] == "sheaves" else CpuPartialMachine
        machine: Machine = model(case, build, 2 if later[4] else 1)
        machine.setup()
    else:
        machine = machine_of(case, build)
    machine.start()
    folder = case.path / build
    schema = dict.fromkeys(("res", "path", "slab", "idx"), pl.Int64)
    pl.DataFrame(machine.ops, schema=schema, orient="row").write_parquet(folder / "ops.parquet")
    for name, rows in machine.tables.items():
        if name == "pool" and not case.pools:
            continue
        if name == "cpu" and build.startswith("slob"):
            continue
        table = pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame(schema=list(KEYS))
        table.write_parquet(folder / f"{name}.parquet")


def compare(spec: Spec, folder: Path) -> list[CaseResult]:
    """Write a case and hold the kernels to it."""
    write_case(spec, folder)
    case = read_case(folder)
    results = []
    for build in builds_of(spec):
        write_expected(case, build)
        results.append(verify_build(case, build))
    return results


def differences(results: list[CaseResult]) -> list[str]:
    """What is not exact, a line each."""
    return [
        f"{result.build} {table.name}: {table.rows - table.exact} of {table.rows} rows; {table.first}"
        for result in results
        for table in result.tables
        if not table.ok
    ]
