"""A replay reads each file that it takes once: what was written between two readings would not fit together."""

import pytest

import fastalloc
from fastalloc.trace.formats import binary, tracedat
from fastalloc.trace.lanes import readings
from fastalloc.trace.replay import folder, recording
from tests.trace import tracedat_writer as td
from tests.trace.sheaf_trace import SHEAF, Trace

SITE = 0xFFFFFFFF81001010
SLABINFO = "slabinfo - version: 2.1\n# name\nother 0 64 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n"


@pytest.fixture
def counted(monkeypatch):
    """Which files were opened, by the readers of traces and of tables of slabs."""
    found = []

    def counting(original):
        def opened(path, *more, **named):
            found.append(path.name)
            return original(path, *more, **named)

        return opened

    for module, name in (
        (folder, "open_tracedat"), (tracedat, "open_tracedat"), (binary, "open_tracedat"), (recording, "content_of"),
        (readings, "content_of"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, counting(getattr(module, name)))
    return found


@pytest.mark.parametrize("uname", ["", "Linux host 7.3.0 x86_64"])
def test_a_trace_dat_is_opened_once(tmp_path, counted, uname):
    cpu = td.Cpu()
    cpu.event(1000, td.record("kmalloc", SITE, 0xFFFF888004900000, 100, 128, 0x400CC0, -1))
    cpu.close()
    path = tmp_path / "run.dat"
    path.write_bytes(td.write_6([cpu], [td.event_format(name) for name in td.EVENTS], uname=uname))
    assert len(fastalloc.replay(path).recording.trace.events) == 1
    assert counted == ["run.dat"]


def test_a_table_of_slabs_is_read_once_also_where_the_trace_tells_its_kernel(tmp_path, counted):
    trace = Trace()
    trace.alloc(1, "other", 5)
    trace.kmalloc(1, 128, 6, site=SHEAF)
    path = trace.write(tmp_path)
    (tmp_path / "run.slabs.csv").write_text(SLABINFO)
    found = fastalloc.replay(path).recording
    assert (found.kernel.version, found.caches[0].name) == ("7.3", "other")
    assert counted == ["run.slabs.csv"]
