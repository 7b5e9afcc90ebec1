"""The first start compiles in two processes."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastalloc.compiler.cache_dir import cache_digest

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: no second process is started")
BESIDE = """
import sys, time
from pathlib import Path
from fastalloc.compiler.beside import compile_beside
from fastalloc.compiler.cache_dir import cache_folder
if sys.argv[2] == "warm":
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "kernel.nbi").touch()
told = sys.argv[1]
for name in ("first", "second"):
    compile_beside(
        "import os, time; from pathlib import Path;"
        f"Path({told + name!r}).write_text(str(os.getpid())); os.replace({told + name!r}, {told!r}); time.sleep(1000)"
    )
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end and not Path(sys.argv[1]).is_file():
    time.sleep(0.01)
"""


def written(folder: Path, state: str, seconds: float, **environment: str) -> str:
    """What the process beside wrote, once the one that started it is over."""
    surroundings = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")} | environment
    told = folder / "told"
    command = [sys.executable, "-c", BESIDE, str(told), state, str(seconds)]
    subprocess.run(command, env=surroundings, check=True, timeout=100, cwd=folder)
    return told.read_text() if told.is_file() else ""


def is_running(process: int) -> bool:
    """Not: ended, whether or not somebody has asked for its exit status."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_one_process_beside_the_first_start_which_ends_with_it(tmp_path):
    process = int(written(tmp_path, "cold", 60))
    end = time.monotonic() + 10
    while is_running(process) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(process)


def test_none_where_kernels_are_there_or_it_is_not_wanted(tmp_path):
    assert written(tmp_path, "warm", 0.5) == ""
    (tmp_path / "alone").mkdir()
    assert written(tmp_path / "alone", "cold", 0.5, FASTALLOC_COMPILE_ALONE="1") == ""


def test_one_of_several_that_start_at_a_time(tmp_path):
    folder = tmp_path / "cache" / cache_digest()
    folder.mkdir(parents=True, mode=0o700)
    with open(folder / "beside.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert written(tmp_path, "cold", 0.5) == ""
    assert written(tmp_path, "cold", 60)


def test_it_imports_what_this_process_would(tmp_path):
    """A module of that name in the folder of whoever starts it is no module of the standard library."""
    (tmp_path / "pathlib.py").write_text("raise SystemExit")
    code = BESIDE.replace("import sys, time", "import sys, time; sys.path.remove('')")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path / "told"), "cold", "60"]
    subprocess.run(command, env=environment, check=True, timeout=100, cwd=tmp_path)
    assert (tmp_path / "told").is_file()
