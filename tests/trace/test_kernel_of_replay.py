"""A replay names the kernel whose rules ran, and refuses one that it has no rules for."""

import json
from pathlib import Path

import pytest

import fastalloc
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


def refused(path, *options):
    with pytest.raises(InputError) as error:
        fastalloc.replay(path, **dict(options))
    return str(error.value)


def test_a_command_line_that_lies_beside_the_trace_is_refused_by_its_file(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    text = TRACE.read_bytes()
    (folder / "trace.dat").write_bytes(text)  # read by what is in it, whatever it is called
    (folder / "version").write_text("Linux version 6.1.0-50-amd64 (x) #1")
    (folder / "cmdline").write_text("quiet slab_max_order=0\r\n")
    why = "slab_max_order=0: no option of 6.1; it is slub_max_order there: Linux 6.1 does not take it so"
    assert refused(folder) == f"{folder / 'cmdline'}: {why}"
    alone = tmp_path / "a.events.txt"
    alone.write_bytes(text)
    meta = tmp_path / "a.meta.json"
    meta.write_text(json.dumps({"uname": "Linux h 6.1.0 #1", "cmdline": "slub_min_order=x"}))
    assert refused(alone).startswith(f"{meta}: slub_min_order=x: no number")
    assert refused(alone, ("boot", "slub_min_order=y")).startswith("--boot: slub_min_order=y")
    meta.write_text(json.dumps({"cmdline": ["slub_min_order=0"]}))
    assert refused(alone).startswith(f"{meta}: cmdline: must be a text")


@pytest.mark.parametrize("name", ["cmdline", "version", "record.txt"])
def test_a_file_of_the_recorder_that_cannot_be_read_is_no_missing_one(tmp_path, name):
    (tmp_path / "trace.dat").touch()
    assert recorded(tmp_path).boot is None
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="cannot be read") as error:
        recorded(tmp_path)
    assert error.value.path == str(tmp_path / name)


@pytest.mark.parametrize(
    ("asked", "size", "site", "version"),
    [
        (128, 128, SHEAF, "7.3"),
        (512, 512, SHEAF, "7.3"),  # of 60 objects
        (288, 512, SHEAF, "6.1"),
        (288, 528, SHEAF, "6.1"),  # slub_debug=Z: red zones in the slot
        (288, 720, SHEAF, "6.1"),  # slub_debug=FZPU
        (128, 144, SHEAF, "7.3"),
        (0, 512, SHEAF, "6.1"),  # a trace that does not tell what was asked for
        (0, 128, SHEAF, "7.3"),
        (800, 1024, "kmem_cache_prefill_sheaf+0x1c1", "6.1"),  # a store of a maple tree wants so many
        (None, None, "", "6.1"),
    ],
)
def test_sheaves_tell_a_kernel_that_nobody_names(tmp_path, asked, size, site, version):
    """Up to 6.19 a cache has sheaves if it asks, of 32 objects: 288 bytes, out of kmalloc-512."""
    trace = Trace()
    trace.alloc(1, "other", 5)
    if size:
        trace.kmalloc(1, size, 6, site=site, asked=asked)
    path = trace.write(tmp_path)
    whole = open_recording(path, None, None, None, "")
    assert (whole.kernel.version, whole.assumed) == (version, True)
    assert ("shows sheaves" if version == "7.3" else "nothing told it") in whole.kernel_line()
    assert open_recording(path, None, None, "6.12", "").kernel.version == "6.12"
