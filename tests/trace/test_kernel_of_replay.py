"""A replay names the kernel whose rules ran, and refuses one that it has no rules for."""

import json
from pathlib import Path

import pytest

from fastalloc.errors import InputError
from fastalloc.trace.replay import recording
from fastalloc.trace.replay.folder import kernel_told, recorded
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
    assert recorded(trace)[:3] == (trace, None, None)
    uname = "Linux (none) 6.12.117+deb12-amd64 #1 SMP PREEMPT_DYNAMIC x86_64 GNU/Linux"
    beside.write_text(json.dumps({"uname": uname, "cmdline": "console=ttyS0 slub_min_order=2"}))
    assert recorded(trace)[:3] == (trace, "6.12", "console=ttyS0 slub_min_order=2")
    for text in ("[]", '{"uname": null, "cmdline": ""}', '{"uname": 6}'):
        beside.write_text(text)
        assert recorded(trace)[:3] == (trace, None, None)
    for text in ("", "{"):
        beside.write_text(text)
        with pytest.raises(InputError, match=r"run\.meta\.json: not JSON"):
            recorded(trace)


@pytest.mark.parametrize(
    ("uname", "version"),
    [
        ("Linux host 2.6.32-5-amd64 #1 SMP x86_64 GNU/Linux", "2.6.32"),
        ("Linux host 6.1+ #2 SMP x86_64", "6.1"),
        ("Linux host 6.17.0-next-20251010 #1", "6.18"),
        ("Linux host 7.0.0-rc3-00012-gdeadbeef01 #1", "7.0"),
        ("Linux version 5.14.0-427.el9.x86_64 (mock@x) #1", "5.14"),
        ("6.12.48+deb13-amd64", "6.12"),
    ],
)
def test_a_release_is_read_as_elsewhere(tmp_path, uname, version):
    trace = tmp_path / "run.events.parquet"
    trace.touch()
    (tmp_path / "run.meta.json").write_text(json.dumps({"uname": uname}))
    assert kernel_told(recorded(trace), None) == version


def test_a_kernel_of_a_recording_that_the_table_lacks_is_refused_by_its_file(tmp_path):
    trace = tmp_path / "run.events.parquet"
    trace.touch()
    beside = tmp_path / "run.meta.json"
    beside.write_text(json.dumps({"uname": "Linux host 2.6.18-8.el5 #1 SMP x86_64 GNU/Linux"}))
    found = recorded(trace)
    with pytest.raises(InputError, match="--kernel gives another") as error:
        kernel_told(found, None)
    assert str(beside) in str(error.value)
    assert kernel_told(found, "2.6.25") == "2.6.25"


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
