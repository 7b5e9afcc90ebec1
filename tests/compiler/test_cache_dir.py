"""The folder of compiled kernels follows their sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastalloc.compiler import cache_dir

cache_digest = cache_dir.cache_digest.__wrapped__  # not kept from one call to the next


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "fastalloc"
    shutil.copytree(cache_dir.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_editing_a_leaf_changes_the_digest(sources):
    before = cache_digest(sources)
    leaf = sources / "linux/gfp.py"
    leaf.write_text(leaf.read_text().replace("0", "1", 1))
    assert cache_digest(sources) != before


def test_the_digest_sees_names_and_all_files(sources):
    before = cache_dir.sources_digest(sources)
    (sources / "linux/gfp.py").rename(sources / "linux/gfq.py")
    renamed = cache_dir.sources_digest(sources)
    assert renamed != before
    (sources / "kernels/new.py").write_text("")
    assert cache_dir.sources_digest(sources) not in (before, renamed)


def test_where_files_are_kept_changes_no_digest(sources):
    assert cache_dir.sources_digest(sources) == cache_dir.sources_digest()
    (sources / "compiler/cache_dir.py").write_text("")
    assert cache_dir.sources_digest(sources) == cache_dir.sources_digest()


def run(code: str, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_kernels_are_kept_in_the_folder(tmp_path):
    code = "from fastalloc.kernels.lane import rng; print(rng.draw.stats.cache_path)"
    digest = cache_dir.cache_digest()
    assert Path(run(code, XDG_CACHE_HOME=str(tmp_path))).parent == tmp_path / "fastalloc" / digest
    assert Path(run(code, NUMBA_CACHE_DIR=str(tmp_path / "own"))).parent == tmp_path / "own" / digest
    assert Path(run(f"import numba; {code}", XDG_CACHE_HOME=str(tmp_path))).parent == tmp_path / "fastalloc" / digest


def test_what_shapes_the_code_has_a_folder_of_its_own(tmp_path, monkeypatch):
    for name in cache_dir.SHAPES_CODE:
        monkeypatch.delenv(name, raising=False)
    code = "from fastalloc.compiler import cache_dir; print(cache_dir.cache_folder().name)"
    settings = ({}, {"NUMBA_BOUNDSCHECK": "1"}, {"FASTALLOC_UNPATCHED": "1"}, {"NUMBA_OPT": "1"})
    assert len({run(code, **setting) for setting in settings}) == len(settings)


def test_compiling_is_announced_once(tmp_path):
    code = (
        "import sys; sys.stderr = sys.stdout; from fastalloc.compiler import cache_dir; cache_dir.announce_compiling()"
    )
    assert "once per version" in run(code, NUMBA_CACHE_DIR=str(tmp_path), COLUMNS="999")
    folder = tmp_path / cache_dir.cache_digest()
    folder.mkdir()
    (folder / "kernel.nbi").write_text("")
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_several_processes_compile_a_kernel_once(tmp_path):
    (tmp_path / "small.py").write_text(
        "from fastalloc.compiler.jit import entry\n@entry\ndef double(x):\n    return 2 * x\n"
        "double(1)\nprint(sum(double.stats.cache_misses.values()))\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "small.py"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=tmp_path) for _ in range(2)]
    assert sorted(int(process.communicate()[0]) for process in started) == [0, 1]
