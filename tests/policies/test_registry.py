"""A new policy is three files: a field, a function of a kernel, a preset. Done to a copy of the package, and run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastalloc

FIELD = """    refuse_after: Annotated[int, Field(ge=0, le=1 << 20), ASKED] = 0  # grants
"""
QUESTION = """    if mem.ctl[POLICY.refuse_after] > 0 and mem.ctl[POLICY.refuse_after] < 1 << 20:
        mem.ctl[POLICY.refuse_after] += 1 << 20  # seen once
"""
PRESET = """name = "refuse-after"
section = "test"
title = "a policy of the test"
description = "Marks that it was asked."
source = "this test"

[set]
"policy.refuse_after" = 7

[[parameters]]
field = "policy.refuse_after"
meaning = "allocations granted"
range = "0 to 1048576"
"""
RUN = """
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.scenario import load_scenario, with_policies

compared = with_policies(load_scenario("swap-livelock-34m"), ["refuse-after"])
arrays = build_lane(compared.variant("refuse-after"), 0, 1)
print([int(group.ctl[POLICY.refuse_after]) for group in (arrays.mem, arrays.io, arrays.vm)])
"""


@pytest.fixture
def package(tmp_path):
    copy = tmp_path / "fastalloc"
    shutil.copytree(Path(fastalloc.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def change(path: Path, before: str, added: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path}: {before!r}"
    path.write_text(text.replace(before, added + before), encoding="utf-8")


def test_a_policy_is_three_files(package):
    original = {path.relative_to(package): path.read_bytes() for path in package.rglob("*.py")}
    change(package / "policy.py", "    questions: str", FIELD)
    allocator = package / "kernels/alloc/page_alloc.py"
    text = allocator.read_text(encoding="utf-8")
    begin = text.index("\ndef alloc_pages(")
    end = text.index('"""\n', text.index('"""', begin) + 3) + 4
    allocator.write_text(text[:end] + QUESTION + text[end:], encoding="utf-8")
    (package / "scenario/policies/refuse-after.toml").write_text(PRESET, encoding="utf-8")
    changed = [path for path, content in original.items() if (package / path).read_bytes() != content]
    assert len(changed) + 1 <= 3
    environment = os.environ | {"PYTHONPATH": str(package.parent), "NUMBA_DISABLE_JIT": "1"}
    ran = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    # The pages that boot took were asked for there, so the kernel has marked the zones' copy.
    assert ran.stdout.strip() == f"[{7 + (1 << 20)}, 7, 7]"
