"""Random cases of later kernels in the golden format: bulk, kfree_rcu, grace periods and prefilled sheaves among the
rest, one to eight CPUs, one or two nodes, sheaves of asked capacities."""

import json
import random
from pathlib import Path

import polars as pl

from fastalloc.verify.golden import CaseResult, verify_build
from fastalloc.verify.golden_case import COLUMNS, read_case
from tests.golden.generate import KMALLOC_SIZES, Phase, Spec, Writer, write_expected

SIZES = (
    8,
    24,
    40,
    64,
    96,
    104,
    128,
    200,
    248,
    256,
    300,
    520,
    700,
    1024,
    1100,
    1500,
    2048,
    3000,
    4096,
    5000,
    8192,
    9000,
)
FLAGS = (0x2000, 0x4000, 0x20000, 0x80000, 0x800000, 0x1000000)
GFP = (0xD0, 0xD0, 0xD0, 0x20, 0x20, 0x0, 0x10, 0x50, 0x10020, 0x100D0, 0x12D0, 0x8D0, 0x80D0)
GFP += (0x30, 0xF0, 0x1020, 0x11200, 0x11210, 0x200D0, 0x800, 0x110F0, 0x10000)
RCU, NOLEAKTRACE = 0x80000, 0x800000
MIXES = {
    "objects": {"alloc": 50, "free": 46, "checkpoint": 1},
    "kmalloc": {"kmalloc": 50, "free": 46, "checkpoint": 1},
    "mixed": {"alloc": 25, "kmalloc": 10, "bulk": 6, "free": 42, "pages": 2, "shrink": 2, "flush": 4, "gp": 2,
              "prefill": 4, "checkpoint": 1},
    "churn": {"alloc": 40, "free": 30, "create": 14, "destroy": 12, "shrink": 2, "flush": 1, "gp": 3, "bulk": 3},
    "pools": {"pool_alloc": 40, "free": 40, "resize": 5, "hold": 4, "alloc": 5, "kmalloc": 5, "checkpoint": 1},
    "pressure": {"alloc": 30, "kmalloc": 10, "bulk": 4, "pages": 6, "free": 30, "hold": 8, "setmin": 3, "shrink": 2,
                 "create": 3, "destroy": 2, "pool_alloc": 5, "resize": 1, "flush": 2, "gp": 3, "prefill": 6,
                 "checkpoint": 1},
    "rcu": {"alloc": 45, "free": 45, "gp": 3, "flush": 1, "shrink": 1, "bulk": 2, "checkpoint": 1},
    "private": {"alloc": 20, "free": 30, "prefill": 40, "bulk": 5, "hold": 2, "checkpoint": 1},
}  # fmt: skip


class LaterWriter(Writer):
    """The rows of a trace; objects of ``BULK_FREE`` are (first id, count), prefilled sheaves have a list of their own.

    ``sheaves``: the build has operations 17, 18 and 21 to 23.
    """

    mixes, masks = MIXES, GFP

    def __init__(self, spec, caches, pools, limited, free, cpus, sheaves):
        super().__init__(spec, caches, pools, limited, free)
        self.cpus, self.sheaves = cpus, sheaves
        self.rcu_share = 0.0
        self.rcu_waits = False
        self.prefilled: list[tuple[int, int]] = []  # cache, id

    def phase(self, phase: Phase) -> None:
        self.rcu_share = 0.6 if phase.kind == "rcu" else random.Random(phase.seed).choice((0, 0, 0.1))
        super().phase(phase)

    def kill(self, rng, burst, death, cpus) -> None:
        for _ in range(min(burst, len(self.objects))):
            self.comb = (self.comb + 17) % len(self.objects)
            at = {"fifo": 0, "lifo": -1, "random": rng.randrange(len(self.objects)), "comb": self.comb}[death]
            op, cache, obj = self.objects.pop(at)
            cpu = rng.choice(cpus)
            if op == "BULK_FREE":
                self.row(op, cpu, cache, obj[0], ctx=rng.choice((0, 0, 1)), arg=obj[1])
            elif op == "FREE" and self.sheaves and rng.random() < self.rcu_share:
                self.row("KFREE_RCU", cpu, cache, obj, ctx=rng.choice((0, 0, 1)))
                self.rcu_waits = True
            else:
                self.row(op, cpu, cache, obj, ctx=rng.choice((0, 0, 0, 1)))

    def rare(self, rng, action, cpu) -> None:
        usable = [i for i in self.favourites if i in self.alive]
        if action == "gp":
            self.row("GP", cpu)
            self.rcu_waits = False
        elif action == "bulk" and usable:
            gfp, ctx = self.mask(rng, rng.random() < 0.3)
            count = rng.choice((1, 2, 5, 16, 40, 100))
            cache = rng.choice(usable)
            self.row("BULK_ALLOC", cpu, cache, self.ids, gfp & ~0x40000, ctx, count)
            if rng.random() < 0.7:
                self.objects.append(("BULK_FREE", cache, (self.ids, count)))
            else:
                self.objects += [("FREE", cache, self.ids + i) for i in range(count)]
            self.ids += count
        elif action == "prefill" and self.sheaves and usable:
            self.private(rng, cpu, usable)
        elif action == "destroy":
            self.destroy(rng, cpu)
        elif action not in ("bulk", "prefill", "reap"):
            super().rare(rng, action, cpu)

    def private(self, rng, cpu, usable) -> None:
        gfp, ctx = self.mask(rng, rng.random() < 0.5)
        gfp &= ~0x40000
        held = [sheaf for sheaf in self.prefilled if sheaf[0] in self.alive]
        if not held or rng.random() < 0.25:
            cache = rng.choice(usable)
            self.row("PREFILL", cpu, cache, self.ids, gfp, ctx, rng.choice((1, 3, 8, 12, 28, 33, 61, 200, 1100)))
            self.prefilled.append((cache, self.ids))
            self.ids += 1
            return
        cache, sheaf = rng.choice(held)
        if rng.random() < 0.3:
            self.row("SHEAF_RETURN", cpu, cache, sheaf, gfp, ctx)
            self.prefilled.remove((cache, sheaf))
        else:
            self.row("SHEAF_ALLOC", cpu, cache, self.ids, gfp, ctx, sheaf)
            self.objects.append(("FREE", cache, self.ids))
            self.ids += 1

    def destroy(self, rng, cpu) -> None:
        if not self.alive & self.doomed:
            return
        index = rng.choice(sorted(self.alive & self.doomed))
        for obj in [o for o in self.objects if o[0] in ("FREE", "BULK_FREE") and o[1] == index]:
            self.objects.remove(obj)
            if obj[0] == "BULK_FREE":
                self.row("BULK_FREE", rng.randrange(self.cpus), index, obj[2][0], arg=obj[2][1])
            else:
                self.row("FREE", rng.randrange(self.cpus), index, obj[2])
        for cache, sheaf in [sheaf for sheaf in self.prefilled if sheaf[0] == index]:
            self.row("SHEAF_RETURN", rng.randrange(self.cpus), cache, sheaf, 0xD0)
            self.prefilled.remove((cache, sheaf))
        # What the old way of kfree_rcu holds is in use.
        bare = self.caches[index]["flags"] != hex(int(self.caches[index]["flags"], 16) & ~NOLEAKTRACE)
        if self.rcu_waits and (self.limited or self.spec.nodes > 1 or bare):
            self.row("GP", cpu)
            self.rcu_waits = False
        self.alive.remove(index)
        self.row("DESTROY", cpu, index)


def manifest_of(spec: Spec, cpus: int, build: str) -> dict:
    """Caches, pools and memory of a case."""
    rng = random.Random(spec.seed)
    caches = [
        {
            "index": k,
            "name": f"cache{k}",
            "size": rng.choice(SIZES) if rng.random() < 0.7 else rng.randint(1, rng.choice((5000, 5000, 70_000))),
            "align": rng.choice((0, 0, 0, 0, 8, 16, 24, 64, 128, 512, 4096)),
            "flags": hex(sum(flag for flag in FLAGS if rng.random() < 0.15)),
            "ctor": rng.random() < 0.2,
            "sheaf_capacity": rng.choice((0, 0, 0, 1, 5, 32, 100, 500)),
            "created_on_cpu": rng.randrange(cpus),
            "created": "setup" if k < 2 else rng.choice(("setup", "trace")),
        }
        for k in range(rng.randint(2, 8))
    ]
    pools = []
    for k in range(rng.choice((0, 1, 2, 3))):
        kind = rng.choice(("slab", "slab", "kmalloc", "kmalloc", "pages"))
        setup = [cache["index"] for cache in caches if cache["created"] == "setup"]
        param = {"slab": setup, "kmalloc": KMALLOC_SIZES, "pages": (0, 1, 3)}[kind]
        pools.append(
            {
                "name": f"pool{k}",
                "kind": kind,
                "param": rng.choice(param),
                "min_nr": rng.choice((0, 1, 2, 4, 8, 40)),
                "created_on_cpu": rng.randrange(cpus),
            }
        )
    limited = rng.random() < 0.6
    memory: dict = {"mode": "limited" if limited else "unlimited"}
    if limited:
        memory["free_pages_at_start_per_node"] = rng.choice((0, 3, 12, 40, 150, 150, 600, 2000))
        memory["pages_min_per_node"] = rng.choice((0, 1, 4, 8, 33, 80, 200))
    kmem_cache = 128 if build.startswith("cpupartial") else 160 if spec.nodes > 1 else 136
    return {
        "case": f"generated {spec.seed}",
        "lists": rng.choice(("whole", "first 8 objects of a sheaf")),
        "cpus": cpus,
        "nodes": spec.nodes,
        "cpus_of_node": [[cpu for cpu in range(cpus) if spec.nodes == 1 or cpu // 4 == n] for n in range(spec.nodes)],
        "memory": memory,
        "caches": caches,
        "pools": pools,
        "expect": {build: {"struct_sizes": f"kmem_cache_node 64 kmem_cache {kmem_cache}"}},
    }


def compare(spec: Spec, cpus: int, build: str, folder: Path) -> CaseResult:
    """Write a case, let the model say what happens, and hold the kernels to it."""
    manifest = manifest_of(spec, cpus, build)
    limited = manifest["memory"]["mode"] == "limited"
    free = manifest["memory"].get("free_pages_at_start_per_node", 0)
    sheaves = build.startswith("sheaves")
    writer = LaterWriter(spec, manifest["caches"], manifest["pools"], limited, free, cpus, sheaves)
    for phase in spec.phases:
        writer.phase(phase)
    (folder / build).mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    schema = dict.fromkeys(COLUMNS, pl.Int64)
    pl.DataFrame(writer.rows, schema=schema, orient="row").write_parquet(folder / "trace.parquet")
    (folder / build / "ops.parquet").touch()
    case = read_case(folder)
    write_expected(case, build)
    return verify_build(case, build)
