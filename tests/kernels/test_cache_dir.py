"""The folder of compiled kernels follows their sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastalloc.compiler import cache_dir


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "fastalloc"
    shutil.copytree(cache_dir.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_editing_a_leaf_changes_the_digest(sources):
    before = cache_dir.cache_digest(sources)
    leaf = sources / "linux/gfp.py"
    leaf.write_text(leaf.read_text().replace("0", "1", 1))
    assert cache_dir.cache_digest(sources) != before


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


def test_numba_takes_the_folder(tmp_path):
    code = "import fastalloc.compiler.jit, numba; print(numba.config.CACHE_DIR)"
    folder = Path(run(code, XDG_CACHE_HOME=str(tmp_path)))
    assert folder == tmp_path / "fastalloc" / cache_dir.cache_digest()
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path / "own")) == str(tmp_path / "own")
    assert run(f"import numba; {code}", XDG_CACHE_HOME=str(tmp_path)) == str(folder)


def test_compiling_is_announced_once(tmp_path):
    code = (
        "import sys; sys.stderr = sys.stdout; from fastalloc.compiler import cache_dir; cache_dir.announce_compiling()"
    )
    assert "once per version" in run(code, NUMBA_CACHE_DIR=str(tmp_path))
    (tmp_path / "kernel.nbi").write_text("")
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ""
