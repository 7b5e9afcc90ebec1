"""Files of a replay as users have them: cut, of another system, from a spreadsheet. What is taken, what is refused, by
which file and place."""

import gzip

import polars as pl
import pytest

import fastalloc
from fastalloc.errors import InputError
from fastalloc.trace.replay.folder import recorded
from fastalloc.trace.replay.recording import read_trace
from tests.trace import tracedat_writer as td
from tests.trace.sheaf_trace import Trace

HEAD = (
    "cache,slabs,objects,total_objects,partial,cpu_slabs,slabs_cpu_partial,"
    "slab_size,object_size,order,objs_per_slab,cpu_partial,min_partial"
)
ROW = "other,2,100,128,1,1,0(0),64,64,0,64,30,5"
SLABS = f"{HEAD}\n{ROW}\n"
SLABINFO = "slabinfo - version: 2.1\n# name\nother 10 64 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n"


def written(folder):
    trace = Trace()
    for index in range(4):
        trace.alloc(1, "other", 5, index)
    return trace.write(folder)


def replayed(folder, text, name="run.slabs.csv"):
    path = written(folder)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return fastalloc.replay(path, kernel="6.1").recording


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        (SLABS.replace("\n", "\r\n"), "run.slabs.csv", "/sys/kernel/slab"),
        (f"{HEAD},note\n{ROW},hello\n", "run.slabs.csv", "/sys/kernel/slab"),
        (b"\xef\xbb\xbf" + SLABS.encode(), "run.slabs.csv", "/sys/kernel/slab"),
        (SLABS.encode("utf-16"), "run.slabs.csv", "/sys/kernel/slab"),
        (SLABINFO.replace("\n", "\r\n"), "run.slabs.csv", "/proc/slabinfo"),
        (gzip.compress(SLABINFO.encode()), "run.slabs.csv.gz", "/proc/slabinfo"),
        (f"{HEAD}\n", "run.slabs.csv", "NOT KNOWN"),  # of a kernel without such files
    ],
    ids=("CRLF", "a column more", "byte order mark", "UTF-16", "slabinfo", "gzip", "head alone"),
)
def test_a_table_of_slabs_that_says_the_same_is_taken(tmp_path, text, name, source):
    recording = replayed(tmp_path, text, name)
    assert source in recording.known.words()
    assert [cache.name for cache in recording.caches] == ["other"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SLABS.replace("other,2", "other,NaN"), "row 2, slabs: 'NaN' is no count"),
        (SLABS.replace(",0,64,30", ",NaN,64,30"), "line 2, order: 'NaN' is no number"),
        (SLABS[:-12], "line 2, order: is empty"),
        (SLABS + ROW + "\n", "row 3, cache: 'other' is there before"),
        (SLABS.replace("cpu_slabs", "slabs", 1), "slabs: column is there 2 times"),
        (f"{SLABS}{ROW},1,2\n", "line 3: 15 fields, where the header names 13 columns"),
        (f'{HEAD}\n"a,b"{ROW[5:]}\n{ROW},1\n', "line 3: 14 fields, where the header names 13 columns"),
        ("", "empty CSV"),
        (SLABINFO[:-14], "line 3: is no line of /proc/slabinfo"),
    ],
)
def test_a_table_of_slabs_that_does_not_is_refused_by_its_line(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        replayed(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'run.slabs.csv'}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_geometry_with_a_cache_twice_is_refused(tmp_path):
    path, table = written(tmp_path), tmp_path / "g.csv"
    table.write_text(SLABS + ROW + "\n")
    with pytest.raises(InputError, match=r"g\.csv: cache: 'other' is there more than once"):
        fastalloc.replay(path, geometry=table, kernel="6.1")


def trace_dat(folder, writer, share=1.0, pack=bytes):
    cpu = td.Cpu()
    for i in range(20):
        address = 0xFFFF888004900000 + 128 * i
        cpu.event(1000 + i, td.record("kmalloc", 0xFFFFFFFF81001010, address, 100, 128, 0x400CC0, -1))
    cpu.close()
    data = pack(writer([cpu], [td.event_format(name) for name in td.EVENTS]))
    path = folder / "trace.dat"
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize(
    ("writer", "share", "pack", "words"),
    [
        (td.write_6, 0.5, bytes, r"byte \d+: CPU 0 has 4096 bytes, the file ends at byte"),
        (td.write_7, 0.9, bytes, r"byte \d+: the file ends here, before its section at byte"),
        (td.write_6, 0.9, gzip.compress, "byte 0: is no whole gzip"),
        (td.write_6, 0, bytes, "byte 0: is empty"),
    ],
)
def test_a_recording_cut_in_the_middle_is_refused(tmp_path, writer, share, pack, words):
    with pytest.raises(InputError, match=rf"trace\.dat: {words}"):
        fastalloc.replay(trace_dat(tmp_path, writer, share, pack))


def test_text_in_utf_16_is_told_as_such(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("a.out  441 [000]  4.6: kmem:kfree: call_site=f ptr=0xffff96b98b8b3200\n".encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16; write it as UTF-8"):
        read_trace(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("lost=\n", r"record\.txt: lost: '' is no count"), ("lost=12\r\n", "12 events were lost"), ("lost=0\r\n", None)],
)
def test_what_the_recorder_says_of_losses(tmp_path, text, words):
    trace_dat(tmp_path, td.write_6)
    (tmp_path / "record.txt").write_bytes(text.encode())
    if words is None:
        assert recorded(tmp_path).trace == tmp_path / "trace.dat"
        return
    with pytest.raises(InputError, match=words):
        recorded(tmp_path)


def test_events_out_of_order_and_columns_unknown(tmp_path):
    path = written(tmp_path)
    table = pl.read_parquet(path)
    table.with_columns(note=pl.lit("x")).write_parquet(path)
    assert len(read_trace(path).events) == 4
    table.reverse().write_parquet(path)
    with pytest.raises(InputError, match="row 1: time runs backwards"):
        read_trace(path)
    table.with_columns(ts_ns=pl.lit(float("nan"))).write_parquet(path)
    with pytest.raises(InputError, match="ts_ns: holds double"):
        read_trace(path)
