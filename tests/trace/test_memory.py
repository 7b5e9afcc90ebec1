"""Memory of a decode that resolves the order, in a process of its own."""

import json
import subprocess
import sys

import pytest

from tests.geometry.shared import DATA, shared

SCRIPT = """
import json, sys
from pathlib import Path
from fastalloc.trace.replay.recording import beside, open_recording

def held(what):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) * 1024

def opened(path):
    return open_recording(path, beside(path, "slabstate"), None, "6.1", "")

small, large = map(Path, sys.argv[1:])
opened(small).run([], 2)
before = held("VmRSS")
recording = opened(large)
recording.run([], 2)
print(json.dumps([held("VmHWM") - before, recording.trace.nbytes]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_three_times_the_compact_trace():
    """Decoded, resolved, replayed and drawn anew; above what the process holds after a small trace."""
    small = DATA / "traces" / "d_stack_k612.events.parquet"
    large = shared("kernel", "traces") / "d_long_mix_k61_smp4_nomerge.events.parquet"
    done = subprocess.run([sys.executable, "-c", SCRIPT, small, large], check=True, capture_output=True, text=True)
    most, compact = json.loads(done.stdout)
    assert most <= 3 * compact
