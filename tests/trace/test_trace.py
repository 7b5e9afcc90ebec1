"""Compact traces, inference, text readers: what they keep, count and refuse."""

import gzip
import re
import shutil
import subprocess
from contextlib import suppress
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import read_parquet
from fastalloc.trace.compact.convert import compact_events
from fastalloc.trace.compact.describe import describe
from fastalloc.trace.compact.rows import Times
from fastalloc.trace.formats.text import read_text
from fastalloc.trace.replay.drawn_orders import reordered
from fastalloc.trace.replay.recording import read_trace
from tests.geometry.shared import shared

A = "ffff888004900000"
B = "ffff888004800100"
TEXT = f"""# tracer: nop
#
       cat-1     [000] .....     1.000001: kmalloc: call_site=f+0x1/0x2 ptr={A} bytes_req=100 bytes_alloc=128 gfp_flags=GFP_KERNEL node=-1 accounted=false
       cat-1     [000] .....     1.000002: kmem_cache_alloc: call_site=g+0x1/0x2 ptr={B} bytes_req=192 bytes_alloc=192 gfp_flags=GFP_NOWAIT|__GFP_ZERO node=-1 accounted=false
       cat-1     [001] d..1.     1.000003: kfree: call_site=f+0x9/0x20 ptr={A}
       cat-1     [001] .....     1.000004: kfree: call_site=f+0x9/0x20 ptr=0000000000000000
       cat-1     [001] .....     1.000005: kmem_cache_free: call_site=g+0x8/0x20 ptr={B} name=dentry
       cat-1     [001] .....     1.000006: mm_page_alloc: page=ffffea0000 pfn=0x4801 order=1 migratetype=0 gfp_flags=GFP_KERNEL
       cat-1     [001] .....     1.000007: tracing_mark_write: hello
"""  # noqa: E501


def written(tmp_path, text, name="t.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def table(frames):
    return pl.concat(list(frames))


def names_of(trace):
    return trace.kinds["cache"].gather(trace.events["kind"]).to_list()


def test_text_is_read_and_every_inference_counted(tmp_path):
    trace = read_trace(written(tmp_path, TEXT))
    assert names_of(trace) == ["kmalloc-128", "dentry", "kmalloc-128", "dentry", ""]
    assert trace.meta["inferred"] == {
        "kfree(NULL), left out": 1,
        "cache named by the tracepoint": 1,
        "cache size class": 1,
        "cache from its free": 1,
        "cache from its allocation": 1,
    }
    assert trace.markers["text"].to_list() == ["hello"]
    assert trace.events["object"][4] == 0x4801
    assert trace.time_ns().tolist() == [1_000_001_000, 1_000_002_000, 1_000_003_000, 1_000_005_000, 1_000_006_000]
    totals = describe(trace)["totals"]
    assert (totals["cross CPU frees"], totals["total bytes wasted on internal fragmentation"]) == (2, 28)


def test_gzip_reads_alike(tmp_path):
    packed = tmp_path / "t.txt.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert table(read_text(packed)).equals(table(read_text(written(tmp_path, TEXT))))


def test_strict_refuses_inference(tmp_path):
    with pytest.raises(InputError, match="--strict"):
        read_trace(written(tmp_path, TEXT), strict=True)
    co.write_trace(tmp_path / "t.fatrace", read_trace(written(tmp_path, TEXT)))
    with pytest.raises(InputError, match=r"cache size class.*--strict"):
        read_trace(tmp_path / "t.fatrace", strict=True)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda t: t.replace("#\n", "CPU:1 [LOST 12 EVENTS]\n"), "line 2: events were lost"),
        (lambda t: t.replace("1.000003", "0.900003"), "line 5: time runs backwards"),
        (lambda t: t.replace(" bytes_alloc=128", ""), "line 3: kmalloc without the fields"),
        (lambda t: t.replace("bytes_alloc=128", "size=128"), "line 3: kmalloc has a field 'size'"),
        (lambda t: t.replace("order=1", "order=40"), "line 8: a block of order 40"),
        (lambda t: t.replace("bytes_alloc=128", "bytes_alloc=99999999999"), "line 3: a value of bytes_alloc"),
        (lambda t: t + "what is this\n", "line 10: is no event"),
        (lambda t: t[:-60], "line 9: the file ends inside this line"),
        (lambda t: t.replace("node=-1 ", "colour=3 "), "line 3: kmalloc has a field 'colour'"),
        (lambda t: t.replace("order=1 ", "order=1 colour=3 "), "line 8: mm_page_alloc has a field 'colour'"),
        (lambda t: "#\n", "holds no kmem event"),
        (lambda t: "", "holds no kmem event"),
        (lambda t: t + "x" * (3 << 20), "line 10: has more than 1,048,576 bytes"),
    ],
)
def test_malformed_text_is_refused_with_its_line(tmp_path, change, where):
    with pytest.raises(InputError) as caught:
        table(read_text(written(tmp_path, change(TEXT))))
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"PERFILE2\0\0" + bytes(100), "perf script"),
        (gzip.compress(b"PERFILE2\0\0" + bytes(100)), "perf script"),
        (gzip.compress(b"FATRACE\x1a" + bytes(100)), "unpack"),
    ],
    ids=["perf.data", "perf.data.gz", "fatrace.gz"],  # gzip writes the time: ids must be the same in each process
)
def test_binary_recordings_say_what_to_run(tmp_path, data, advice):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(InputError, match=advice):
        table(read_text(path))


def test_text_cut_anywhere_never_gives_a_traceback(tmp_path):
    packed = gzip.compress(TEXT.encode())
    for size in range(0, len(packed), 13):
        path = tmp_path / f"cut-{size}.gz"
        path.write_bytes(packed[:size])
        with pytest.raises(InputError):
            table(read_text(path))
    for size in range(0, len(TEXT), 31):
        with suppress(InputError):
            table(read_text(written(tmp_path, TEXT[:size], f"{size}.txt")))


def test_compact_trace_comes_back_as_written(tmp_path):
    trace = read_trace(written(tmp_path, TEXT))
    path = tmp_path / "t.fatrace"
    co.write_trace(path, trace)
    again = co.open_trace(path)
    assert co.EVENT.itemsize == 16
    assert np.array_equal(again.events, trace.events)
    assert np.array_equal(again.ptrs, trace.ptrs)
    assert again.kinds.equals(trace.kinds)
    assert again.meta == trace.meta


def test_damaged_compact_traces_are_refused(tmp_path):
    path = tmp_path / "t.fatrace"
    co.write_trace(path, read_trace(written(tmp_path, TEXT)))
    whole = path.read_bytes()
    path.unlink()
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        path = tmp_path / f"cut-{size}.fatrace"
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            co.open_trace(path)
    for at in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        if at in range(co.HEADER.size, co.HEADER_BYTES):
            continue  # the header's padding holds nothing
        path = tmp_path / f"damaged-{at}.fatrace"
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            co.open_trace(path)


def test_a_cache_without_name_follows_its_page(tmp_path):
    text = TEXT.replace(f"ptr={B} name=dentry", "ptr=ffff888004800200 name=dentry")
    assert read_trace(written(tmp_path, text)).meta["inferred"]["cache same slab page"] >= 1


def test_reordering_keeps_each_cpu_and_each_object_in_order(tmp_path):
    rng = np.random.default_rng(5)
    lines = []
    out = {}
    for step in range(400):
        ptr = f"ffff8880048{int(rng.integers(40)):02x}000"
        cpu = int(rng.integers(3))
        stamp = f"a-1 [00{cpu}] ..... 1.{step:06d}: "
        if ptr in out:
            del out[ptr]
            lines.append(stamp + f"kmem_cache_free: call_site=f ptr={ptr} name=x")
        else:
            out[ptr] = True
            lines.append(
                stamp + f"kmem_cache_alloc: call_site=f ptr={ptr} bytes_req=8 bytes_alloc=8 gfp_flags=0 node=-1"
            )
    trace = read_trace(written(tmp_path, "\n".join(lines) + "\n"))
    every = np.ones(len(trace.kinds), bool)
    moved = reordered(trace, 3, every)
    assert not np.array_equal(moved.events["object"], trace.events["object"])
    for column, values in (("cpu", range(3)), ("object", range(len(trace.ptrs)))):
        for value in values:
            before, after = (item.events[item.events[column] == value] for item in (trace, moved))
            assert np.array_equal(before[["object", "op", "cpu"]], after[["object", "op", "cpu"]])
    assert reordered(trace, 0, every) is trace
    assert np.array_equal(reordered(trace, 3, every).events, moved.events)
    assert np.array_equal(reordered(trace, 3, ~every).events, trace.events)


def test_a_bulk_free_goes_from_its_end(tmp_path):
    events = table(read_text(written(tmp_path, TEXT))).filter(pl.col("ptr") > 0)
    events = events.with_columns(
        op=pl.Series([co.OP_FREE, *[co.OP_BULK_FREE] * (len(events) - 1)], dtype=pl.UInt8),
        ts_ns=pl.Series([1, *[2] * (len(events) - 1)]),
        cpu=pl.Series([0, 0, 0, 1], dtype=pl.UInt16),
        cache=pl.lit("x"),
    )
    trace = compact_events(tmp_path, [events])
    assert trace.ptrs[trace.events["object"]].tolist() == events["ptr"][[0, 2, 1, 3]].to_list()


@pytest.mark.parametrize("run", ["d_w1_k61_smp2", "d_w4_k612_smp4", "d_stack_k612"])
def test_inferred_caches_are_those_found_by_address(run):
    """Most of what the trace alone gives agrees with what was worked out with the kernel's own tables at hand."""
    path = shared("kernel", "traces") / f"{run}.events.parquet"
    known = compact_events(path, read_parquet(path))
    guessed = compact_events(path, read_parquet(path, resolved=False))
    tables = []
    for trace in (known, guessed):
        rows = trace.events["op"] <= co.OP_BULK_FREE
        ptr = trace.ptrs[trace.events["object"][rows]]
        name = trace.kinds["cache"].gather(trace.events["kind"][rows])
        tables.append(
            pl.DataFrame({"ts": trace.time_ns()[rows], "ptr": ptr, "cpu": trace.events["cpu"][rows], "name": name})
        )
    both = tables[0].join(tables[1], on=["ts", "ptr", "cpu"])
    assert len(both) >= 0.97 * len(tables[0])
    named = both.filter(~pl.col("name_right").str.contains("/"))
    assert (named["name"] == named["name_right"]).mean() >= 0.96


@pytest.mark.parametrize(
    ("file", "run"),
    [
        ("d_pure_w4_k612_smp2.trace-cmd-report.txt.gz", "d_pure_w4_k612_smp2"),
        ("d_pure_w4_k612_smp2.ftrace.txt.gz", "d_pure_w4_k612_smp2"),
        ("d_pure_w3_k61_smp2.trace-cmd-report.txt.gz", "d_pure_w3_k61_smp2"),
    ],
)
def test_real_text_gives_the_events_of_the_decoded_trace(file, run):
    text = table(read_text(shared("kernel", "raw") / file))
    decoded = table(read_parquet(shared("kernel", "traces") / f"{run}.events.parquet"))
    assert len(text) == len(decoded)
    key = ["cpu", "op", "ptr", "bytes_req", "bytes_alloc", "order", "node"]
    ours, theirs = (table.select(key).sort(key) for table in (text, decoded))
    assert ours.equals(theirs)


@cache
def totals_of_perf():
    return describe(read_trace(shared("kernel", "raw") / "d_perf_k61.perf-script.txt.gz"))["totals"]


def test_totals_are_those_of_perf_kmem():
    """`perf kmem -i FILE stat --slab` of perf 6.1 on the recording that this text was printed from."""
    totals = totals_of_perf()
    assert totals["allocations"] == 26299
    assert totals["total bytes requested"] == 17_947_529
    assert totals["total bytes allocated"] == 18_122_464
    assert totals["total bytes freed"] == 16_539_944
    assert totals["net total bytes allocated"] == 1_582_520
    assert totals["total bytes wasted on internal fragmentation"] == 174_935
    assert totals["of these freed again, no allocation in between"] == 28_184


def test_perf_kmem_itself_says_the_same(tmp_path):
    if shutil.which("perf") is None:
        pytest.skip("perf is not installed")
    raw = shared("kernel", "raw")
    data = tmp_path / "perf.data"
    data.write_bytes(gzip.decompress((raw / "d_perf_k61.perf.data.gz").read_bytes()))
    command = ["perf", "kmem", "-f", "-i", str(data), "--slab", "stat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = dict(
        re.findall(r"^(Total bytes \w+|Net total bytes \w+|Total bytes wasted[\w ]+): +([\d,]+)", done.stdout, re.M)
    )
    if not said:
        pytest.skip("this perf has no `kmem stat`")
    ours = {name.lower(): value for name, value in totals_of_perf().items()}
    assert {name.lower(): int(value.replace(",", "")) for name, value in said.items()}.items() <= ours.items()
    assert len(said) >= 4


@given(some.lists(some.lists(some.integers(0, 1 << 40), min_size=1, max_size=5), max_size=6))
def test_times_come_out_alike_in_whatever_frames_they_came(gaps):
    """Their unit grows on the way, once they fill 32 bits."""
    frames = [np.array(frame, np.int64) for frame in gaps]
    whole = np.cumsum(np.concatenate([np.array([7], np.int64), *frames]))
    times, into, begin = Times(), np.zeros(len(whole), np.uint32), 0
    for frame in np.split(whole, np.cumsum([len(frame) for frame in frames])):
        times.put(frame, into[:begin], into[begin : begin + len(frame)])
        begin += len(frame)
    assert times.unit == co.time_unit(int(whole[-1] - 7))
    assert (into == (whole - 7) // times.unit).all()
