"""A model with one rule wrong is noticed: each row changes a line of a reference, and a recorded case differs.

The kernels are held to the same models, by ``test_generated_later`` and the state machines.
"""

import inspect
import tempfile
import textwrap
from pathlib import Path

import polars as pl
import pytest

from fastalloc.verify.golden import compare_state
from fastalloc.verify.golden_case import read_case
from tests.golden.generate import differences
from tests.golden.generate_later import compare
from tests.golden.test_generated_later import random_case
from tests.golden.test_golden import LATER_SMALL
from tests.reference import percpu_sheaves
from tests.reference.cpu_partial import CpuPartialCache
from tests.reference.cpu_partial_machine import CpuPartialMachine
from tests.reference.later_machine import LaterMachine
from tests.reference.node_lists import NodeListCache
from tests.reference.percpu_sheaves import SheafCache
from tests.reference.sheaf_calls import Cache
from tests.reference.sheaf_machine import SheafMachine
from tests.reference.stub_pages import StubPages63

# What is wrong; where; the line; what stands there instead; a case that notices.
SHEAVES = [
    (
        "refill by those who may wait alone",
        SheafCache.replace_empty_main,
        'self.stats[cpu]["barn_get_fail"] += 1',
        'self.stats[cpu]["barn_get_fail"] += 1\n        if not gfp & 0x10:\n            return 0',
        "s_hand50",
    ),
    ("spare not looked at", SheafCache.replace_empty_main, "if c.spare and c.spare.objects:", "if False:", "s_hand50"),
    ("empty main dropped", SheafCache.replace_empty_main, "barn.empty.insert(0, c.main)", "pass", "s_bulk4"),
    (
        "refill may take the reserves",
        SheafCache.replace_empty_main,
        "gfp | NOMEMALLOC | NOWARN",
        "gfp | NOWARN",
        "s_oom2",
    ),
    (
        "incomplete refill kept",
        SheafCache.replace_empty_main,
        "self.flush_unused(cpu, sheaf)\n            self.free_empty_sheaf(cpu, sheaf)",
        "barn.empty.insert(0, sheaf)",
        "s_oom_refill1",
    ),
    (
        "partial fill uncounted",
        SheafCache.refill_sheaf,
        "+= len(got)\n        return",
        "+= len(got) * (len(got) == missing)\n        return",
        "s_oom_refill1",
    ),
    ("surplus of a refill to the head", NodeListCache.refill_from_node, "tail=True", "tail=False", "s_bulk4"),
    (
        "refill from the tail of the list",
        NodeListCache.refill_from_node,
        "list(self.partials[node])",
        "self.partials[node][::-1]",
        "s_bulk4",
    ),
    (
        "objects copied last first",
        NodeListCache.refill_from_node,
        "for index in here]",
        "for index in here[::-1]]",
        "s_bulk4",
    ),
    ("reserve slabs open to all", NodeListCache.may_use, "not slab.block.pfmemalloc", "True", "s_oom_refill1"),
    ("rest of a new slab to the tail", NodeListCache.take_from_new_slab, "tail=False", "tail=True", "s_oom_refill1"),
    (
        "single object takes the slab over",
        NodeListCache.get_from_partial_node,
        "if not slab.freelist:",
        "if True:",
        "s_mempool2",
    ),
    (
        "node not tried alone first",
        NodeListCache.slab_alloc,
        "if node >= 0 and not gfp & THISNODE:",
        "if False:",
        6,
    ),
    ("other nodes lend always", NodeListCache.other_nodes, "> self.min_partial", "> 0", "s_numa2"),
    ("mismatch uncounted", SheafCache.alloc_from_pcs, 'self.stats[cpu]["alloc_node_mismatch"] += 1', "pass", "s_numa2"),
    (
        "other node's objects into sheaves",
        SheafCache.goes_to_sheaf,
        "slab.node == self.kernel.node_of_cpu(cpu)",
        "True",
        "s_numa2",
    ),
    ("reserve objects into sheaves", SheafCache.goes_to_sheaf, "not slab.block.pfmemalloc", "True", "s_oom_refill1"),
    (
        "spare not swapped in on free",
        SheafCache.replace_full_main,
        "if had_spare and not c.spare.full:",
        "if False:",
        "s_rcu4",
    ),
    ("barn takes eleven", SheafCache.replace_full_main, ">= self.max_full", "> self.max_full", "s_prodcons4"),
    (
        "full barn: main flushed",
        SheafCache.replace_full_main,
        "sheaf, c.spare = c.spare, None",
        "sheaf, c.main = c.main, c.spare; c.spare = None",
        "s_prodcons4",
    ),
    (
        "full sheaf to the barn's tail",
        SheafCache.replace_full_main,
        "barn.full.insert(0, c.main)",
        "barn.full.append(c.main)",
        "s_prodcons4",
    ),
    ("flush one by one", NodeListCache.detached_freelists, "left[size].slab is slab", "False", "s_prodcons4"),
    ("look-ahead of two", NodeListCache.detached_freelists, "LOOKAHEAD", "2", "s_prodcons4"),
    ("look-ahead of four", NodeListCache.detached_freelists, "LOOKAHEAD", "4", "s_prodcons4"),
    ("chain the other way round", NodeListCache.detached_freelists, "chain.insert(0,", "chain.append(", "s_prodcons4"),
    (
        "flushed objects are slow frees",
        SheafCache.flush_unused,
        'self.stats[cpu]["sheaf_flush"] += len(things)',
        'self.stats[cpu]["sheaf_flush"] += len(things); self.stats[cpu]["free_slowpath"] += len(things)',
        "s_prodcons4",
    ),
    ("main flushed at once", SheafCache.flush_main, "-PCS_BATCH_MAX:", "-1000:", "s_rcu4"),
    (
        "emptied slab goes one earlier",
        NodeListCache.slab_free,
        ">= self.min_partial",
        ">= self.min_partial - 1",
        "s_bulk4",
    ),
    (
        "emptied slab goes at once",
        NodeListCache.slab_free,
        "len(self.partials[slab.node]) >= self.min_partial",
        "True",
        "s_bulk4",
    ),
    (
        "turned slab to the head",
        NodeListCache.slab_free,
        "self.add_partial(slab, tail=True)",
        "self.add_partial(slab, tail=False)",
        "s_rcu4",
    ),
    (
        "sheaf from nowhere",
        SheafCache.alloc_empty_sheaf,
        "if memory is None:",
        "self.kernel.kfree(cpu, memory)\n        if memory is None:",
        "s_hand50",
    ),
    (
        "recursion as deep as it gets",
        SheafCache.alloc_empty_sheaf,
        "recurse=not self.kmalloc",
        "recurse=True",
        "s_kmalloc_mix4",
    ),
    (
        "pages of RCU slabs freed at once",
        NodeListCache.discard_slab,
        "if self.rcu_slabs:",
        "if False:",
        52,
    ),
    ("first try reclaims", NodeListCache.new_slab, "first = (first | NOMEMALLOC) & ~WAIT", "pass", 45),
    ("equals keep their order at shrink", NodeListCache.shrink_partials, "near.reverse()", "pass", "s_rcu4"),
    (
        "bulk refills sheaves",
        Cache.alloc_bulk_from_pcs,
        'stats["barn_get_fail"] += 1\n                    break',
        "if not self.replace_empty_main(cpu, 0xD0, True):\n                        break\n                    continue",
        "s_bulk4",
    ),
    (
        "bulk free flushes the spare",
        Cache.free_many_to_pcs,
        'stats["barn_put_fail"] += 1\n                    break',
        "self.replace_full_main(cpu)\n                    continue",
        "s_bulk4",
    ),
    (
        "no slow allocations of bulk",
        Cache.alloc_bulk,
        '["alloc_slowpath"] += rest',
        '["alloc_slowpath"] += 0',
        "s_bulk4",
    ),
    (
        "rcu sheaf not taken from the spare",
        Cache.new_rcu_sheaf,
        "if c.spare and not c.spare.objects:",
        "if False:",
        "s_rcu4",
    ),
    (
        "partly full rcu sheaf ripens",
        SheafMachine.grace_period,
        "self.run_callbacks()",
        "[cache.hand_over_rcu_sheaves() for cache in self.newest_first()]; self.run_callbacks()",
        "s_rcu4",
    ),
    ("ripe sheaf to the tail", Cache.rcu_free_sheaf, "barn.full.insert(0, sheaf)", "barn.full.append(sheaf)", "s_rcu4"),
    ("ripe sheaf ignores the limit", Cache.rcu_free_sheaf, "len(barn.full) < self.max_full", "True", "s_rcu4"),
    ("spare not prefilled first", Cache.prefill, "if c.spare:", "if False:", "s_prefill2"),
    ("prefill may take the reserves at once", Cache.prefill, "gfp | NOMEMALLOC)", "gfp)", "s_prefill2"),
    ("oversize sheaf recycled", Cache.return_sheaf, "sheaf.capacity != self.capacity or", "", "s_prefill2"),
    ("sheaf not given back as spare", Cache.return_sheaf, "if c.spare is None:", "if False:", "s_prefill2"),
    (
        "shrink keeps the spare",
        Cache.flush_cpu,
        "c.spare = c.rcu_free = None",
        "c.rcu_free = None; spare = None",
        "s_rcu4",
    ),
    ("shrink leaves barns alone", Cache.shrink, "self.shrink_barns(cpu)", "pass", "s_rcu4"),
    ("barns shrunk from the tail", Cache.shrink_barns, "for sheaf in full:", "for sheaf in full[::-1]:", "s_rcu4"),
    (
        "main sheaves of all but one CPU",
        Cache.add_sheaves,
        "for c in self.cpus:",
        "self.cpus[-1].main = percpu.Sheaf(capacity, None)\n        for c in self.cpus[:-1]:",
        "s_hand50",
    ),
    (
        "barns cost nothing",
        Cache.add_sheaves,
        "self.barns.append(Barn(memory))",
        "self.kernel.kfree(cpu, memory); self.barns.append(Barn(memory))",
        "s_numa2",
    ),
    (
        "discount without HIGH",
        StubPages63.choose,
        "harder = high and not gfp & (WAIT | NOMEMALLOC)",
        "harder = not gfp & WAIT",
        "s_mempool2",
    ),
    (
        "pool asked once",
        LaterMachine.pool_alloc,
        "(polite, full) if polite != full else (full,)",
        "(polite,)",
        "s_mempool2",
    ),
]
PARTIAL = [
    (
        "slabs on a CPU's list are frozen",
        CpuPartialCache.slab_free,
        "any(c.slab is slab for c in self.cpus)",
        "any(c.slab is slab or slab in c.partial for c in self.cpus)",
        "p_bulk4",
    ),
    ("chains not turned by hooks", CpuPartialCache.free_many, "indices[::-1]", "indices", "p_bulk4"),
    (
        "other CPUs flushed first",
        CpuPartialCache.flush_all,
        "range(len(self.cpus))",
        "reversed(range(len(self.cpus)))",
        "p_mempool2",
    ),
    (
        "full list drained one earlier",
        CpuPartialCache.put_cpu_partial,
        ">= self.limit\n",
        ">= self.limit - 1\n",
        "p_bulk4",
    ),
    (
        "private objects turned round",
        CpuPartialCache.deactivate,
        "slab.freelist[:0] = c.free",
        "slab.freelist[:0] = c.free[::-1]",
        "p_mempool2",
    ),
    ("surplus slab kept", CpuPartialCache.is_surplus, ">= self.min_partial", "> self.min_partial", "p_bulk4"),
    ("half of the limit is the limit", CpuPartialCache.get_partial_node, "self.limit // 2", "self.limit", "p_bulk4"),
]

FAILURES = (AssertionError, AttributeError, IndexError, KeyError, RecursionError, ValueError)


class Recorded(list):
    """The rows that a model writes, each held to the recording at once: the first that differs ends the run."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        ops = pl.read_parquet(path)
        columns = ("res", "path", "slab", "idx")
        self.compared = [at for at, column in enumerate(columns) if column in ops.columns]
        self.expected = ops.select(columns[at] for at in self.compared).rows()

    def append(self, row: tuple[int, int, int, int]) -> None:
        assert tuple(row[at] for at in self.compared) == self.expected[len(self)]
        super().append(row)


def differs(name: str | int) -> bool:
    """Whether the model of a small case says anything else than the recording, or fails on the way; of a random case
    (a seed): than the kernels."""
    if isinstance(name, int):
        with tempfile.TemporaryDirectory() as folder:
            try:
                return bool(differences([compare(*random_case(name), Path(folder) / "case")]))
            except FAILURES:
                return True
    folder = next(root / name for root in LATER_SMALL if (root / name).is_dir())
    build = next(folder.glob("*/ops.parquet")).parent.name
    case = read_case(folder)
    model = SheafMachine if build.startswith("sheaves") else CpuPartialMachine
    try:
        machine = model(case, build, 2 if build.endswith("numa2") else 1)
        machine.ops = Recorded(folder / build / "ops.parquet")
        machine.run()
    except FAILURES:
        return True
    if len(machine.ops) != len(machine.ops.expected):
        return True
    tables = [path for path in (folder / build).glob("*.parquet") if path.stem != "ops"]
    return not all(compare_state(path, path.stem, machine.tables[path.stem]).ok for path in tables)


def mutated(method, line: str, instead: str):
    """``method`` with one line changed."""
    source = inspect.getsource(method)
    assert line in source, line
    space = dict(vars(inspect.getmodule(method)), percpu=percpu_sheaves)
    owner = method.__qualname__.partition(".")[0]
    exec(textwrap.dedent(source.replace(line, instead).replace("super()", f"super({owner}, self)")), space)
    return space[method.__name__]


@pytest.mark.parametrize(
    ("wrong", "method", "line", "instead", "case"),
    SHEAVES + PARTIAL,
    ids=lambda part: getattr(part, "__qualname__", str(part))[:40],
)
def test_noticed(monkeypatch, wrong, method, line, instead, case) -> None:
    owner = vars(inspect.getmodule(method))[method.__qualname__.partition(".")[0]]
    replacement = mutated(method, line, instead)
    if isinstance(vars(owner)[method.__name__], staticmethod):
        replacement = staticmethod(replacement)
    monkeypatch.setattr(owner, method.__name__, replacement)
    assert differs(case), wrong


@pytest.mark.parametrize("case", ["s_hand50", "s_rcu4", "p_mempool2", 6, 45, 52])
def test_models_as_they_are_do_not_differ(case) -> None:
    assert not differs(case)
