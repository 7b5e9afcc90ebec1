"""Machine code of a file of one's own is made once, and is of that file, its parameters and its constants alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.kernels.alloc.policy_record import ASKED
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own import kept
from fastalloc.own.compiled import own_policy
from tests.own.test_compiled import asked

pytestmark = pytest.mark.skipif(DISABLE_JIT, reason="nothing is compiled where kernels are interpreted")

SOURCE = "from sizes import MORE\n\n\ndef depth(zone):\n    return zone.min + MORE // 2\n"
CODE = f"""
import sys
import numpy as np
from numba.core import event
from fastalloc.kernels.alloc.policy_record import ASKED
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own.compiled import own_policy
from tests.own.test_compiled import asked
with event.install_recorder("numba:run_pass") as passes:
    policy = own_policy({SOURCE!r}, "mine.py")
ctl = np.zeros(MEMCTL.width, np.int64)
ctl[MEMCTL.asked[ASKED.zone_min]] = 30
print(bool(passes.buffer), asked(policy, "depth", ctl))
"""


def test_it_is_compiled_once_for_what_it_computes(tmp_path):
    def said(more):
        (tmp_path / "sizes.py").write_text(f"MORE = {more}\n")
        paths = os.pathsep.join([str(tmp_path), os.getcwd(), os.environ.get("PYTHONPATH", "")])
        here = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", CODE], env=os.environ | here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert said(8) == ["True", "34"]
    assert said(8) == ["False", "34"]
    assert said(12) == ["True", "36"], "a constant from another file changed, and its text did not"


def depth_of(source):
    policy = own_policy(source, "mine.py")
    ctl = np.zeros(MEMCTL.width, np.int64)
    ctl[MEMCTL.asked[ASKED.zone_min]] = 30
    return asked(policy, "depth", ctl)


def test_questions_that_are_asked_alike_are_told_apart():
    source = "def entitlement(slab):\n    return 1\n\n\ndef next_slab(slab):\n    return 0\n"
    policy, ctl = own_policy(source, "mine.py"), np.zeros(MEMCTL.width, np.int64)
    assert [asked(policy, name, ctl) for name in ("entitlement", "next_slab")] == [1, 0]


def test_where_nothing_can_be_written_it_is_compiled_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept.cache_dir, "cache_folder", lambda: tmp_path / "file" / "below")
    assert depth_of("def depth(zone):\n    return zone.min + 1001\n") == 1031


def test_the_oldest_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(kept.cache_dir, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(kept, "MOST", 2)
    for i in range(4):
        assert depth_of(f"def depth(zone):\n    return zone.min + {2000 + i}\n") == 2030 + i
    assert len(list((tmp_path / kept.cache_dir.OF_ONES_OWN).glob("*.py"))) == 2
    assert len(list(tmp_path.rglob("*.nbi"))) == 2
