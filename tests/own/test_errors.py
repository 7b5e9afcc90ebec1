"""Each way in which a file of one's own can be wrong or fail, as a user meets it: text, exit code, no traceback.

What is wrong with a text is in test_text.py and test_allocator.py, parameters in test_parameters.py, allocators in the
closed loop in test_lane.py, --trust in tests/faults/test_trust.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastalloc.cli import interrupt

SHORT = ("--lanes", 1, "--seconds", 1)
ROOT = Path(__file__).parents[2]
TRACES, GALLERY = ROOT / "tests" / "data" / "traces", ROOT / "docs" / "own"


@pytest.fixture
def mine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def write(source, name="mine.py"):
        Path(name).write_text(source)
        return name

    return write


KEEP = "def keep(cache):\n"
WRONG = [
    ("def keap(cache):\n    return 1\n", "line 1: keap is no question, and nothing calls it; did you mean 'keep'"),
    ("def keep(cash):\n    return 1\n", "keep, line 1: is not asked with 'cash', but with cpu, now, context"),
    (f"{KEEP}    return cache.partail\n", "line 2: keep: cache has no 'partail': there are id"),
    ("def keep(cache)\n    return 1\n", "line 1: expected ':'"),
    ("def refill(sheaf):\n    return 1\n", "refill, line 1: is asked of allocator 'sheaves', '7.3', not of 'slub'"),
    (f"import nothing\n\n\n{KEEP}    return 1\n", "line 1: ModuleNotFoundError: No module named 'nothing'"),
]


@pytest.mark.parametrize(("source", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_text_is_refused_before_anything_is_compiled(mine, fastalloc, source, words):
    mine(source)
    for command, option in (("run", "--policy"), ("compare", "--policies")):
        done = fastalloc(command, "swap-livelock-34m", option, "mine.py", *SHORT, "--out", "d")
        assert done.code == 2
        assert f"mine.py: {words}" in done.err, done.err
        assert done.err.count("\n") == 1
    assert not Path("d").exists()


TURNS = "its loops take more than 100,000 turns: keep("
FAILS = {
    "an exception": ("    raise ValueError('why')\n", "line 2: ValueError: why: keep(cache=(id="),
    "an assertion": ("    assert cache.size < 0\n    return 1\n", "line 2: AssertionError: keep(cache=(id="),
    "a division": ("    return 1 // (cache.size - cache.size)\n", "line 2: ZeroDivisionError: "),
    "an overflow": ("    return cache.size << 62\n", "line 2: OverflowError: a whole number does not fit in 64 bits"),
    "a shift": ("    return cache.size << cache.size\n", "line 2: OverflowError: a shift is by 0 to 63 bits: keep("),
    "an endless loop": ("    while cache.size:\n        pass\n    return 1\n", f"line 2: OverflowError: {TURNS}"),
    "a range": ("    return -7\n", "line 1: keep(cache=(id="),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_fails_ends_its_lane_and_the_run_with_code_3(mine, fastalloc, name):
    body, words = FAILS[name]
    file = mine(f"{KEEP}{body}")
    done = fastalloc("compare", "swap-livelock-34m", "--policies", file, *SHORT, "--out", "d")
    assert done.code == 3
    line = done.err.splitlines()[-1]
    assert "lane 0 of mine at 0." in line
    assert f"its policy failed: {file}: " in line
    assert words in line
    assert "again with: fastalloc run d/scenario.toml --debug --trust --variant mine --lanes 1" in line
    assert "Traceback" not in done.err
    if name == "a range":
        assert "answered -7, not KERNEL (-1) or 0 on" in line
    if name != "a division":
        return
    again = fastalloc(*line.partition("again with: fastalloc ")[2].split(), "--out", "again")
    assert again.code == 3
    assert words in again.err


def test_new_writes_what_runs_and_never_over_a_file(mine, fastalloc):
    made = fastalloc("policy", "new", "mine.py")
    assert made.code == 0
    assert made.out == "mine.py: run it with: fastalloc compare swap-livelock --policies mine.py\n"
    text = Path("mine.py").read_text()
    again = fastalloc("policy", "new", "mine.py")
    assert (again.code, again.err) == (2, "mine.py: is there already\n")
    assert Path("mine.py").read_text() == text
    assert "a policy is a file such as my_patch.py" in fastalloc("policy", "new", "mine.txt").err
    assert "no-such" in fastalloc("policy", "new", "no-such/mine.py").err
    done = fastalloc("compare", "swap-livelock-34m", "--policies", "mine.py", "--set", "policy.kept=7", *SHORT)
    assert done.code == 0, done.err


def test_new_writes_an_allocator_too(mine, fastalloc):
    assert fastalloc("policy", "new", "mine.py", "--allocator").code == 0
    done = fastalloc("policy", "check", "mine.py", "--seconds", 1)
    assert done.code == 0, done.out
    assert done.out.startswith("mine.py: no fault in ")


def test_check_and_time_say_what_is_wrong_with_a_file(mine, fastalloc):
    missing = fastalloc("policy", "check", "none.py")
    assert (missing.code, missing.err) == (2, "none.py: cannot be read: No such file or directory\n")
    mine("def keap(cache):\n    return 1\n")
    for command in ("check", "time"):
        assert "line 1: keap is no question" in fastalloc("policy", command, "mine.py").err
    mine("def keep(cache):\n    return 1\n")
    assert "policy.kept: is no field" in fastalloc("policy", "check", "mine.py", "--set", "kept=3").err
    assert "kept: a parameter is a whole number" in fastalloc("policy", "check", "mine.py", "--set", "kept=x").err


def test_ctrl_c_is_heard_inside_a_policy(mine):
    """Each answer takes some 90,000 turns, and there are a million."""
    mine("def entitlement(slab):\n    n = 0\n    for i in range(90_000):\n        n ^= i\n    return n >= 0\n")
    words = ["compare", "swap-livelock-34m", "--policies", "mine.py", "--lanes", "4", "--seconds", "600", "--out", "d"]
    process = subprocess.Popen([sys.executable, "-m", "fastalloc.cli.main", *words], stderr=subprocess.PIPE, text=True)
    while not Path("d").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(2.0)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert time.monotonic() - begun < interrupt.GRACE_S + 20
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize("what_if", ["policy=mine.py", "allocator=mine.py"])
def test_ctrl_c_is_heard_at_once_inside_a_replay(mine, what_if):
    """Each call takes some milliseconds, and there are tens of thousands; a replay has nothing to finish first."""
    turns = "    n = 0\n    for i in range(90_000):\n"
    turns += "".join(f"        n = (n * {7 + k} + i) % 1_000_003\n" for k in range(8))
    if what_if == "policy=mine.py":
        mine(f"def free_to(slab):\n{turns}    return -1 if n >= 0 else 1\n")
        words = [TRACES / "d_w4_k73_smp4.events.parquet", "--kernel", "7.3"]
    else:
        text = (GALLERY / "buddy_only.py").read_text()
        mine(text.replace("    lock(zone)\n    page", f"{turns}    if n < 0:\n        lock(zone)\n    page"))
        words = [TRACES / "d_stack_k612.events.parquet", "--kernel", "6.12"]
    command = [sys.executable, "-m", "fastalloc.cli.main", "replay", *map(str, words), "--what-if", what_if]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while _cpu_s(process.pid) < 25:  # what reads, fits and compiles takes less where kernels are compiled
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    print(f"{what_if}: ended {time.monotonic() - begun:.2f} s after the signal")
    assert process.returncode == 130, told
    assert time.monotonic() - begun < 10  # 0.1 s where the machine is not loaded
    assert "Traceback" not in told


def _cpu_s(pid):
    """Seconds of CPU time that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
