"""A cache whose creation was refused: nothing can be had of it, by whichever call [mm/slab_common.c:
__kmem_cache_create_args returns NULL]."""

import json
from pathlib import Path

import polars as pl
import pytest

from fastalloc.kernels.replay import operations as rp
from fastalloc.verify.golden import run_case
from fastalloc.verify.golden_case import COLUMNS, read_case
from tests.golden.generate import write_expected

NO_MEMORY = {"mode": "limited", "free_pages_at_start_per_node": 0, "pages_min_per_node": 200}
KMEM_CACHE = 20_000  # bytes: one to a slab, so each new cache needs pages


def operations(sheaves: bool) -> list[tuple[int, ...]]:
    ops = [(rp.OP_CREATE, 0, 1, -1, 0xD0, 0, -1), (rp.OP_BULK_ALLOC, 0, 1, 100, 0xD0, 0, 5)]
    ops += [
        (rp.OP_BULK_FREE, 0, 1, 100, 0, 0, 5),
        (rp.OP_ALLOC, 0, 1, 200, 0xD0, 0, -1),
        (rp.OP_SHRINK, 0, 1, -1, 0, 0, -1),
    ]
    if sheaves:
        ops += [(rp.OP_PREFILL, 0, 1, 300, 0xD0, 0, 9), (rp.OP_SHEAF_ALLOC, 0, 1, 301, 0xD0, 0, 300)]
        ops += [(rp.OP_KFREE_RCU, 0, 1, 301, 0, 0, -1), (rp.OP_SHEAF_RETURN, 0, 1, 300, 0xD0, 0, -1)]
    return [*ops, (rp.OP_FREE, 0, 1, 200, 0, 0, -1), (rp.OP_DESTROY, 0, 1, -1, 0, 0, -1)]


@pytest.mark.parametrize("build", ["sheaves73", "cpupartial612"])
def test_nothing_is_had_of_it(tmp_path: Path, build: str) -> None:
    cache = {"align": 0, "flags": "0x80000", "ctor": False, "sheaf_capacity": 0, "created_on_cpu": 0}
    caches = [
        cache | {"name": "left", "size": 100, "created": "setup"},
        cache | {"name": "gone", "size": 300, "created": "trace"},
    ]
    structs = f"kmem_cache_node 64 kmem_cache {KMEM_CACHE}"
    manifest = {"cpus": 1, "nodes": 1, "lists": "whole", "memory": NO_MEMORY, "caches": caches, "pools": []}
    manifest["expect"] = {build: {"struct_sizes": structs}}
    (tmp_path / build).mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / build / "ops.parquet").touch()
    rows = operations(build == "sheaves73")
    pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.Int64), orient="row").write_parquet(tmp_path / "trace.parquet")
    case = read_case(tmp_path)
    write_expected(case, build)
    expected = pl.read_parquet(tmp_path / build / "ops.parquet")
    play = run_case(case, build).play
    assert play.res.tolist() == [0] * len(rows) == expected["res"].to_list()
    assert play.path.tolist() == [0] * len(rows) == expected["path"].to_list()
