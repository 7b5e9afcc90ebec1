"""Functions of others compile and run as without fastalloc, whatever their names, in any process and thread."""

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import njit
from numba.core import cgutils
from numba.core.targetconfig import TargetConfig
from numba.np import arrayobj

from fastalloc.compiler import cache_dir, patches
from fastalloc.compiler.jit import entry, internal
from fastalloc.kernels.alloc.page_alloc import alloc_pages
from fastalloc.trace.lanes.lane import unlimited_mem

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
NAMES = ("folded", "entry", "a.folded", "a.entry", "fastalloc.kernels.x.folded")


def foreign(name, **options):
    """Adds the last item and those before it, counted from the end; calls another foreign function."""

    def last(values):
        return values[-1]

    last.__qualname__ = name
    last = njit(**options)(last)

    def total(values):
        found = last(values)
        for i in range(2, len(values) + 1):
            found += values[-i]
        return found

    total.__qualname__ = name
    return njit(**options)(total)


def works(name):
    return foreign(name)(np.arange(5)) == 10 and foreign(name, nogil=True, forceinline=True)(np.ones(3)) == 3.0


@internal
def first_of(values, i):
    return values[i]


@entry
def kernel_of_both(values, at):
    """One index that is a kernel's, and a foreign function whose indices count from the end."""
    return first_of(values, at) * 100 + LAST(values, at - 2)


@njit
def LAST(values, i):  # noqa: N802
    return values[i]


@pytest.mark.parametrize("name", NAMES)
def test_names_mean_nothing(name):
    assert alloc_pages(unlimited_mem(1, 1), 0, -1, 0, 0, 0) == 0
    assert works(name)


def test_a_kernel_may_call_them():
    assert kernel_of_both(np.arange(7, 10), 1) == 809  # 8, and -1 is the last: 9


@pytest.mark.skipif(not patches.USED, reason="indices may count from the end")
def test_an_index_of_a_kernel_counts_from_the_start():
    """A test for negative indices at each access would cost a tenth of the run time."""

    @entry
    def item(values, i):
        return first_of(values, i)

    values = np.arange(10)
    assert item(values[5:], -1) == values[4]


def test_numba_is_as_it_was():
    alloc_pages(unlimited_mem(1, 1), 0, -1, 0, 0, 0)
    for function in (arrayobj.fix_integer_index, cgutils.get_item_pointer2, TargetConfig.values):
        assert function.__module__.startswith("numba.")
    assert numba.types.BaseFunction.get_call_type.__module__.startswith("numba.")


def test_threads_compile_kernels_and_others_at_a_time():
    right, done = [], []

    def own(k):
        @entry
        def times(values, i):
            return first_of(values, i) * 2

        done.append(times(np.arange(3, dtype=(np.int64, np.int32)[k % 2]), 1) == 2)

    threads = [threading.Thread(target=own, args=(k,)) for k in range(4)]
    threads += [threading.Thread(target=lambda name=name: right.append(works(name))) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 4
    assert right == [True] * len(NAMES)


def test_spawned_processes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(works, NAMES[:1]) == [True]


def run(code, **environment):
    """The last line that a new interpreter prints, and its standard error."""
    kept = {name: value for name, value in os.environ.items() if name != patches.SWITCH}
    done = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1], done.stderr


SMALL = """
import numpy as np
from fastalloc.compiler import patches
from fastalloc.compiler.jit import entry, folded, internal
@internal
def at(a, i): return a[i, 1]
@folded
def twice(a, i): return 2 * at(a, i)
@entry
def total(a):
    found = 0
    for i in range(a.shape[0]): found += twice(a, i)
    return found
print(total(np.arange(6).reshape(3, 2)), patches.USED)
"""


def test_without_the_replacements_kernels_give_the_same(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    code = f"exec(compile(open({str(path)!r}).read(), {str(path)!r}, 'exec'))"
    with_them = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert with_them == ("18 True", "")
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path), FASTALLOC_UNPATCHED="1") == ("18 False", "")


def test_another_numba_compiles_without_after_one_line_of_warning(tmp_path):
    code = "import numba; numba.__version__ = '9.9.9'\nfrom fastalloc.compiler import jit\nprint(jit.patches.USED)"
    out, told = run(code)
    assert out == "False"
    assert told.count("\n") == 1
    assert "Numba 9.9.9" in told


def test_their_cache_is_where_they_want_it(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (tmp_path / "theirs.py").write_text("from numba import njit\n@njit(cache=True)\ndef f(x): return x + 1\nf(1)\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fastalloc.kernels.lane.rng, theirs\n"
    kept, _ = run(code + "print(theirs.f.stats.cache_path)")
    assert Path(kept) == tmp_path / "__pycache__"
    assert cache_dir.cache_folder() not in Path(kept).parents
