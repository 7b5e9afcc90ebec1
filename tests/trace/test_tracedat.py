"""trace.dat: what is read of it, and what is refused. ``trace-cmd`` judges the test's own files where it is there."""

import gzip
import random
import shutil
import struct
import subprocess
from contextlib import suppress

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import read_parquet
from fastalloc.trace.formats import binary, packed, tracedat
from fastalloc.trace.replay.folder import recorded
from fastalloc.trace.replay.recording import read_trace
from tests.geometry.shared import shared
from tests.trace import tracedat_writer as tw

A, B = 0xFFFF888004900000, 0xFFFF888004800100
SITE = 0xFFFFFFFF81001010
WRITERS = {
    "6": tw.write_6,
    "7, zstd": tw.write_7,
    "7, not packed": lambda *args, **named: tw.write_7(*args, **named, packed=False),
}
FORMATS = [tw.event_format(name) for name in tw.EVENTS]


def two_cpus():
    first, second = tw.Cpu(), tw.Cpu()
    first.event(1_000, tw.record("kmalloc", SITE, A, 100, 128, 0x400CC0, -1))
    first.raw(struct.pack("<II", 7 << 5 | 29, 12) + bytes(8))  # a record taken back; its 7 ns count
    first.event(900_000_000_000, tw.record("mm_page_alloc", 0x4800, 1, 0x12CC0))
    first.raw(struct.pack("<I", 29))  # the rest of the page is empty
    first.close()
    second.event(2_000, tw.record("kmem_cache_free", SITE - 0x1010, B, "dentry"))
    second.event(2_001, tw.record("kfree", SITE, A) + bytes(200))  # a long record
    second.close()
    return [first, second]


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


def read_binary(path):
    return pl.concat(binary.read_binary(path))


def written(tmp_path, data):
    path = tmp_path / "t.dat"
    path.unlink(missing_ok=True)  # a file that is cut and written again is flushed to the disk
    path.write_bytes(data)
    return path


def test_events_of_both_versions(tmp_path, writer):
    events = read_binary(written(tmp_path, writer(two_cpus(), FORMATS)))
    columns = ["ts_ns", "cpu", "op", "src", "cache", "ptr", "call_site", "bytes_req", "bytes_alloc", "gfp_flags"]
    assert events.select(*columns).rows() == [
        (1_000, 0, co.OP_ALLOC, "kmalloc", "", A, "shrink+0x10", 100, 128, 0x400CC0),
        (2_000, 1, co.OP_FREE, "kmem_cache_free", "dentry", B, "start+0x0", 0, 0, 0),
        (2_001, 1, co.OP_FREE, "kfree", "", A, "shrink+0x10", 0, 0, 0),
        (900_000_000_007, 0, co.OP_PAGE_ALLOC, "mm_page_alloc", "", 0, "", 0, 0, 0x12CC0),
    ]
    assert events.select("pfn", "order", "node").rows()[3] == (0x4800, 1, -1)


def test_a_recording_tells_its_machine(tmp_path, writer):
    """[trace-cmd.dat.v7(5): option 5 is the uname of the machine; each of its CPUs has a place, without events too]."""
    path = written(tmp_path, writer([*two_cpus(), tw.Cpu(), tw.Cpu()], FORMATS, uname="Linux host 6.12.9-1 x86_64"))
    assert recorded(path)[:3] == (path, "6.12", None)
    assert read_trace(path).meta["cpus_present"] == 4
    path = written(tmp_path, writer(two_cpus(), FORMATS))
    assert recorded(path)[:3] == (path, None, None)
    assert read_trace(path).meta["cpus_present"] == 2
    path = written(tmp_path, path.read_bytes()[:300])
    assert recorded(path)[:3] == (path, None, None)


def test_trace_cmd_reads_the_same(tmp_path, writer):
    if shutil.which("trace-cmd") is None:
        pytest.skip("trace-cmd is not installed")
    path = written(tmp_path, writer(two_cpus(), FORMATS))
    said = subprocess.run(["trace-cmd", "report", "-t", str(path)], capture_output=True, text=True, check=True).stdout
    lines = [line for line in said.splitlines() if "call_site" in line or "pfn" in line]
    assert len(lines) == 4
    assert "0.000001000" in lines[0]
    assert "bytes_req=0x64 bytes_alloc=0x80" in lines[0]
    assert "name=dentry" in lines[1]
    assert "900.000000007" in lines[3]


def test_records_span_pages(tmp_path, writer):
    cpu = tw.Cpu()
    for i in range(1_000):
        cpu.event(10 * i, tw.record("kfree", SITE, A + 64 * i))
    cpu.close()
    assert len(cpu.pages) > 5
    events = read_binary(written(tmp_path, writer([cpu], FORMATS)))
    assert events["ts_ns"].to_list() == [10 * i for i in range(1_000)]
    assert events["ptr"].to_list() == [A + 64 * i for i in range(1_000)]


def test_parts_make_no_difference(tmp_path, writer, monkeypatch):
    """Three CPUs of which one is silent for long and two have events at the same times."""
    cpus = [tw.Cpu(), tw.Cpu(), tw.Cpu()]
    rng = random.Random(3)
    for i in range(600):
        cpus[rng.randrange(2)].event(10 * (i // 3), tw.record("kfree", SITE, A + 64 * i))
    for time in (0, 500, 900_000):
        cpus[2].event(time, tw.record("kfree", SITE, B))
    for cpu in cpus:
        cpu.close()
    path = written(tmp_path, writer(cpus, FORMATS))
    monkeypatch.setattr(tracedat, "PART", 1 << 30)
    whole = read_binary(path)
    assert whole.select("ts_ns", "cpu").rows() == sorted(whole.select("ts_ns", "cpu").rows())
    assert len(whole) == 603
    monkeypatch.setattr(tracedat, "PART", 1000)  # a quarter of a page
    parts = list(binary.read_binary(path))
    assert pl.concat(parts).equals(whole)
    if writer is tw.write_6:
        assert max(map(len, parts)) < 300


def one_page(flags=0, **changes):
    cpu = tw.Cpu()
    cpu.event(1, tw.record("kfree", SITE, A))
    if "raw" in changes:
        cpu.raw(changes["raw"])
    cpu.close(flags)
    return [cpu]


@pytest.mark.parametrize(
    ("cpus", "formats", "named", "reason"),
    [
        (one_page(1 << 31), FORMATS, {}, "lost events"),
        (
            one_page(),
            FORMATS,
            {"stats": ["CPU: 0\nentries: 1\noverrun: 0\ndropped events: 7\n"]},
            "CPU 0 lost 7 events",
        ),
        (one_page(), FORMATS, {"clock": "counter"}, "clock 'counter'"),
        (one_page(raw=struct.pack("<I", 1 << 5 | 28)), FORMATS, {}, "does not fit its page"),
        (one_page(raw=struct.pack("<II", 0, 1 << 30)), FORMATS, {}, "does not fit its page"),
        (one_page(raw=struct.pack("<IHH", 1, 13, 0)), FORMATS, {}, "shorter than its format"),
        (one_page(), [text.replace(" ptr;", " address;") for text in FORMATS], {}, "has no field ptr"),
        (one_page(), [text.replace("kfree", "sched") for text in FORMATS], {}, "holds no kmem event"),
        (one_page(), [], {}, "describes no event"),
        ([tw.Cpu()], FORMATS, {}, "holds no kmem event"),
    ],
)
def test_what_cannot_be_believed_is_refused(tmp_path, writer, cpus, formats, named, reason):
    with pytest.raises(InputError, match=reason):
        read_binary(written(tmp_path, writer(cpus, formats, **named)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b"tracing6", b"tracing5"), "version '5'"),
        (lambda data: data.replace(b"tracing6\0\0", b"tracing6\0\1"), "big-endian"),
        (lambda data: data.replace(b"flyrecord", b"latency  "), "text"),
        (lambda data: data.replace(b"header_page", b"header_Page"), "here should be header_page"),
    ],
)
def test_other_files_are_refused(tmp_path, change, reason):
    with pytest.raises(InputError, match=reason):
        read_binary(written(tmp_path, change(tw.write_6(two_cpus(), FORMATS))))


def test_cut_anywhere(tmp_path, writer):
    data = writer(two_cpus(), FORMATS)
    whole = read_binary(written(tmp_path, data))
    refused = 0
    for size in [*range(0, len(data), 37), len(data) - 1]:
        try:
            events = read_binary(written(tmp_path, data[:size]))
        except InputError:
            refused += 1
        else:
            assert events.equals(whole)  # only padding was lost
    assert refused > 3


def test_damaged_anywhere(tmp_path, writer):
    data = writer(two_cpus(), FORMATS)
    rng = random.Random(1)
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        with suppress(InputError):
            read_binary(written(tmp_path, bytes(damaged)))


@pytest.mark.parametrize("run", ["d_pure_w3_k61_smp2", "d_pure_w4_k612_smp2"])
def test_real_recordings_hold_the_events_that_were_decoded_from_them(run):
    events = read_binary(shared("kernel", "raw") / f"{run}.trace.dat")
    decoded = pl.concat(read_parquet(shared("kernel", "traces") / f"{run}.events.parquet"))
    for name in ("ts_ns", "cpu", "op", "cache", "ptr", "call_site", "bytes_req", "bytes_alloc", "gfp_flags", "order",
                 "pfn", "node"):  # fmt: skip
        assert events[name].equals(decoded[name]), name


def test_version_6_as_trace_cmd_writes_it(tmp_path):
    source = shared("kernel", "raw") / "d_pure_w4_k612_smp2.trace.dat"
    if shutil.which("trace-cmd") is None:
        pytest.skip("trace-cmd is not installed")
    path = tmp_path / "six.dat"
    subprocess.run(
        ["trace-cmd", "convert", "-i", str(source), "-o", str(path), "--file-version", "6"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert path.read_bytes()[10:12] == b"6\0"
    assert read_binary(path).equals(read_binary(source))


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: pa.compress(data, codec="zstd", asbytes=True)])
def test_packed_recordings_are_read_alike(tmp_path, pack):
    data = tw.write_6(two_cpus(), FORMATS)
    plain = read_trace(written(tmp_path, data))
    packed = pack(data)
    assert np.array_equal(read_trace(written(tmp_path, packed)).events, plain.events)
    for size in range(0, len(packed), 97):
        with pytest.raises(InputError):
            read_trace(written(tmp_path, packed[:size]))


def test_a_recording_is_a_trace(tmp_path):
    trace = read_trace(written(tmp_path, tw.write_7(two_cpus(), FORMATS)))
    assert trace.kinds["cache"].gather(trace.events["kind"]).to_list() == [
        "kmalloc-cg-128",
        "dentry",
        "kmalloc-cg-128",
        "",
    ]


@pytest.mark.parametrize(
    ("account", "written_as"),
    [(0x100000, "0x100000u"), (0x400000, "((((1UL))) << (22))"), (1 << 27, "((((1UL))) << (27))")],
)
def test_masks_are_read_by_the_names_that_their_kernel_gives_them(tmp_path, account, written_as):
    """__GFP_ACCOUNT moved: the format of the event says where it is, and with it the type of the kmalloc cache."""
    names = f'{{( unsigned long)(( gfp_t){written_as}), "__GFP_ACCOUNT"}}, {{( unsigned long)0x01u, "GFP_DMA"}}'
    texts = [text.rstrip("\n") + f', __print_flags(REC->gfp_flags, "|", {names})\n' for text in FORMATS]
    cpu = tw.Cpu()
    cpu.event(1, tw.record("kmalloc", SITE, A, 100, 128, account, -1))
    cpu.event(2, tw.record("kmalloc", SITE, A + 128, 100, 128, 0x20000000, -1))
    cpu.event(3, tw.record("kmalloc", SITE, A + 256, 100, 128, account | 1, -1))
    cpu.close()
    trace = read_trace(written(tmp_path, tw.write_6([cpu], texts)))
    names = trace.kinds["cache"].gather(trace.events["kind"]).to_list()
    assert names == ["kmalloc-cg-128", "kmalloc-128", "dma-kmalloc-128"]


def test_a_recording_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MOST_UNPACKED", 1 << 16)
    path = written(tmp_path, gzip.compress(tw.write_6([tw.Cpu()], FORMATS) + bytes(1 << 20)))
    with pytest.raises(InputError, match="once unpacked"):
        read_trace(path)
