"""`make test-kernel`: Debian's kernels, KASLR on, recorded by the script alone; the prediction against their counts.

With GUESTS=results/replay/guests.csv in the environment each boot writes its row there."""

import re
import tarfile

import pytest

from fastalloc.trace.lanes.readings import read_readings
from fastalloc.trace.replay.end_readings import against
from fastalloc.trace.replay.folder import recorded
from fastalloc.trace.replay.recording import open_recording
from tests.boot.machine import Guest, UnavailableError, boot
from tests.boot.rows import put_where_asked, row_of

GUESTS = [
    Guest("6.1", "mix", ("--shrink",)),
    Guest("6.12", "mix", ("--shrink",)),
    Guest("6.1", "files"),
    Guest("6.12", "forks", cpus=4),
    Guest("6.12", "mix", ("--shrink",), cpus=4, megabytes=1024, nodes=2),
    Guest("7", "mix", ("--shrink",)),
    Guest("7", "mix", ("--shrink",), cpus=4, megabytes=1024, nodes=2),
    Guest("7", "forks", ("--shrink",), cpus=4),
    Guest("7", "files"),
]
SHEAVES = 3  # times the error of older kernels: no reading tells what lies in sheaves


def names(guest):
    nodes = f"-{guest.nodes}nodes" if guest.nodes > 1 else ""
    return f"{guest.kernel}-{guest.work}-{guest.cpus}{nodes}{'-'.join(guest.options)}"


@pytest.mark.kernel
@pytest.mark.parametrize("guest", GUESTS, ids=names)
def test_a_kernel_recorded_by_the_script(guest, tmp_path, capsys):
    try:
        folder = boot(guest, tmp_path)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    console = (tmp_path / "console.txt").read_text(errors="replace")
    assert "left: \n" in console.replace("\r", "")  # no trace instance is left behind
    run = recorded(folder)
    slabs = folder / "trace.slabs.csv"
    recording = open_recording(run.trace, None, None, run.kernel, run.boot or "", slabs=slabs)
    found = against(recording.run([], 1)[0], read_readings(slabs), read_readings(folder / "after" / "trace.slabs.csv"))
    put_where_asked(row_of(guest, run.kernel, len(recording.trace.events), found))
    with capsys.disabled():
        print(
            f"\n| {names(guest)} | {len(recording.trace.events):,} | {found.real_pages:,} | {100 * found.error:+.2f} % "
            f"| {100 * found.within_one:.0f} % of {found.caches} | {found.worst[:3]}"
        )
    assert recording.trace.meta["direct_map_votes"] > 0
    wide = SHEAVES if guest.kernel == "7" else 1
    assert abs(found.error) <= wide * (0.005 if guest.options else 0.03)
    assert found.within_one >= 1 - wide * 0.1


@pytest.mark.kernel
def test_nothing_is_left_at_any_way_out(tmp_path):
    """Each signal, SIGKILL included; tracing in use; a full disk: one line, no instance, no folder."""
    try:
        boot(Guest("6.1", "ways-out"), tmp_path)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    except (OSError, EOFError, tarfile.ReadError):
        pass  # no folder comes back from this guest
    console = (tmp_path / "console.txt").read_text(errors="replace").replace("\r", "")
    ways = [line for line in console.splitlines() if line.startswith("ways out: ") and "left" in line]
    assert len(ways) == 11
    assert all(line.endswith("left ''") for line in ways), console
    (told,) = re.findall(r"Ctrl-C: status 0, (\d+) hundredths, (\d+) processes, +\d+ /tmp/out/run/trace.dat", console)
    assert int(told[1]) <= 60  # it waits for few, so that a busy machine ends it soon too
    assert "in use: status 1" in console
    assert "full disk: status 1" in console
