"""Traces of 7.3 written event by event."""

import polars as pl

from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.replay.recording import open_recording

SLAB = 0xD2CC0  # mask of a refill's slab in 7.3
SHEAF = "__pcs_replace_empty_main+0x272"
NAMES = {"thing": 1024, "part": 448, "other": 64, "maple_node": 256}


class Trace:
    """A trace of 7.3, event by event."""

    def __init__(self):
        self.rows = []
        self.calls = []

    def _add(self, pid, event, **more):
        row = {"cpu": 0, "src": event, "cache": "", "ptr": 0, "call_site": "f+0x1", "bytes_alloc": 0, "gfp_flags": 0}
        row |= {"order": 0, "pfn": 0, "node": -1, **more}
        row |= {"ts_ns": 1000 * (len(self.rows) + 1), "event": event, "pid": pid, "bytes_req": row["bytes_alloc"]}
        self.rows.append(row)

    def alloc(self, pid, cache, pfn, index=0, cpu=0):
        size = NAMES[cache]
        address = DIRECT_MAP + (pfn << 12) + index * size
        self._add(
            pid, "alloc", src="kmem_cache_alloc", cache=cache, ptr=address, bytes_alloc=size, gfp_flags=0xCC0, cpu=cpu
        )

    def kmalloc(self, pid, size, pfn, index=0, site="f+0x1", cpu=0, asked=None):
        address = DIRECT_MAP + (pfn << 12) + index * size
        self._add(pid, "alloc", src="kmalloc", ptr=address, bytes_alloc=size, gfp_flags=0xDC0, call_site=site, cpu=cpu)
        self.rows[-1]["bytes_req"] = size if asked is None else asked

    def free(self, pid, cache, pfn, index=0, cpu=0):
        address = DIRECT_MAP + (pfn << 12) + index * NAMES[cache]
        self._add(pid, "free", src="kmem_cache_free", cache=cache, ptr=address, cpu=cpu)

    def pages(self, pid, *pfns, order=0, gfp=SLAB, cpu=0):
        for pfn in pfns:
            self._add(pid, "page_alloc", src="mm_page_alloc", pfn=pfn, order=order, gfp_flags=gfp, cpu=cpu)

    def call(self, pid, event, sheaf=0, n=0, want=0, cpu=0, cache="maple_node"):
        """A row of the table of probes; its time is between those of the events around it."""
        row = {"ts_ns": 1000 * len(self.rows) + 500, "cpu": cpu, "event": event, "cache": cache, "sheaf": sheaf}
        self.calls.append(row | {"n": n, "want": want, "pid": pid})

    def open(self, tmp_path, slabs=None):
        return open_recording(self.write(tmp_path), None, None, "7.3", "slab_max_order=0", slabs=slabs)

    def write(self, tmp_path):
        path = tmp_path / "run.events.parquet"
        kinds = {"ts_ns": pl.Int64, "cpu": pl.UInt8, "ptr": pl.UInt64, "pfn": pl.UInt64, "order": pl.UInt8}
        kinds |= {"node": pl.Int16, "pid": pl.Int32} | dict.fromkeys(
            ("bytes_req", "bytes_alloc", "gfp_flags"), pl.UInt32
        )
        pl.DataFrame(self.rows).cast(kinds).write_parquet(path)
        if self.calls:
            pl.DataFrame(self.calls).cast({"sheaf": pl.UInt64}).write_parquet(tmp_path / "run.sheaftruth.parquet")
        return path

    def run(self, tmp_path):
        recording = self.open(tmp_path)
        table = recording.run([])[0].result.caches
        return recording, {row["cache"]: row for row in table.iter_rows(named=True)}
