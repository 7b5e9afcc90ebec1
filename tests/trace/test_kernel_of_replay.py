"""A replay names the kernel whose rules ran, and refuses one that it has no rules for."""

import json
from pathlib import Path

import pytest

from fastalloc.errors import InputError
from fastalloc.trace.replay import recording
from fastalloc.trace.replay.folder import recorded
from fastalloc.trace.replay.recording import open_recording
from fastalloc.trace.replay.results import write_results
from tests.trace.sheaf_trace import SHEAF, Trace

TRACE = Path(__file__).resolve().parents[1] / "data" / "text_traces" / "x86-perf-g.txt"


def opened(kernel=None, boot=""):
    return open_recording(TRACE, None, None, kernel, boot)


def test_the_manifest_names_the_kernel_and_says_when_nobody_told(tmp_path):
    whole = opened()
    assert whole.assumed
    assert "Linux 6.1" in whole.kernel_line()
    assert "nothing told it" in whole.kernel_line()
    write_results(tmp_path, whole, whole.run([]), "fastalloc replay")
    kernel = json.loads((tmp_path / "manifest.json").read_text())["kernel"]
    assert (kernel["version"], kernel["assumed"]) == ("6.1", True)
    assert all(kernel["sources"].values())


def test_caches_follow_the_kernel():
    assert {cache.era for cache in opened("6.12").caches} == {"cpu-partial"}
    assert {cache.era for cache in opened("2.6.35").caches} == {"2.6.25"}
    assert {cache.era for cache in opened("6.18").caches} == {"cpu-partial"}  # no kmalloc cache asks for sheaves
    assert not opened("6.12").assumed


@pytest.mark.parametrize("kernel", ["2.6.24", "7.4", "mainline"])
def test_a_kernel_outside_the_table_is_refused(kernel):
    with pytest.raises(InputError, match="--kernel"):
        opened(kernel)


def test_a_kernel_whose_slabs_the_loop_does_not_move_is_refused(monkeypatch):
    monkeypatch.setattr(recording, "REPLAYED", ("cpu-partial",))
    with pytest.raises(InputError, match="does not move slabs as"):
        opened("2.6.30")


def test_a_boot_option_that_the_kernel_does_not_take_is_refused():
    with pytest.raises(InputError, match="--boot"):
        opened("6.1", "slab_max_order=0")
    assert opened("6.9", "slab_max_order=0").options.max_order == 0


def test_what_lies_beside_a_trace_tells_its_kernel(tmp_path):
    trace = tmp_path / "run.events.parquet"
    trace.touch()
    beside = tmp_path / "run.meta.json"
    assert recorded(trace) == (trace, None, None)
    uname = "Linux (none) 6.12.117+deb12-amd64 #1 SMP PREEMPT_DYNAMIC x86_64 GNU/Linux"
    beside.write_text(json.dumps({"uname": uname, "cmdline": "console=ttyS0 slub_min_order=2"}))
    assert recorded(trace) == (trace, "6.12", "console=ttyS0 slub_min_order=2")
    for text in ("", "[]", "{", '{"uname": null, "cmdline": ""}', '{"uname": 6}'):
        beside.write_text(text)
        assert recorded(trace) == (trace, None, None)


@pytest.mark.parametrize(("size", "version"), [(128, "7.3"), (512, "6.1"), (None, "6.1")])
def test_sheaves_tell_a_kernel_that_nobody_names(tmp_path, size, version):
    """Up to 6.19 a cache has sheaves if it asks, of 32 objects: 288 bytes, out of kmalloc-512."""
    trace = Trace()
    trace.alloc(1, "other", 5)
    if size:
        trace.kmalloc(1, size, 6, site=SHEAF)
    path = trace.write(tmp_path)
    whole = open_recording(path, None, None, None, "")
    assert (whole.kernel.version, whole.assumed) == (version, True)
    assert ("shows sheaves" if size == 128 else "nothing told it") in whole.kernel_line()
    assert open_recording(path, None, None, "6.12", "").kernel.version == "6.12"
