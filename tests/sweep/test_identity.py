"""Different work never shares an identity; spelling never changes one."""

import hashlib
import itertools
import os
import shutil
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from fastalloc.model_digest import PACKAGE
from fastalloc.scenario import Scenario, load_scenario
from fastalloc.sweep import plan_sweep
from fastalloc.sweep.identity import Identities, canonical_json, point_identity, task_identity

BASE = load_scenario("swap-livelock").variant("rc8")


def identity(scenario, seed=1, model="m"):
    return point_identity(scenario, seed, model)


def shuffled(value):
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return value


def test_key_order_and_defaults_spelled_out_change_nothing():
    data = BASE.model_dump(exclude_none=True)
    assert identity(Scenario.model_validate(shuffled(data))) == identity(BASE)
    assert identity(Scenario.model_validate(BASE.model_dump(exclude_defaults=True))) == identity(BASE)


def test_comments_and_spelling_of_numbers_change_nothing(tmp_path):
    texts = [
        'name = "a"\nmachine = "linux-2.6.25-rc8-256m"\n[run]\nduration_s = 20\n[host]\nqueue_depth = 4\n',
        '# why\nmachine = "linux-2.6.25-rc8-256m"\nname = "a"\nhost = { can_queue = 1, queue_depth = 0x4 } # depth\n'
        "run = { duration_s = 20.0, lanes = 7, seed = 9 }\n",
    ]
    found = set()
    for i, text in enumerate(texts):
        path = tmp_path / f"{i}.toml"
        path.write_text(text)
        found.add(identity(load_scenario(path)))
    assert len(found) == 1


def test_tables_that_points_share_are_written_once_and_change_nothing():
    """The digest is that of the whole scenario as JSON."""
    many = Identities(1, "m")
    for depth in (1, 2, 2, 1):
        for settings in ({"host.queue_depth": depth}, {"run.duration_s": 9.0 + depth}, {"machine.swap_pages": depth}):
            own = BASE.with_settings(settings)
            resolved = own.model_dump(mode="json", exclude={"run": {"lanes", "seed"}})
            whole = canonical_json({"kind": "point", "scenario": resolved, "seed": 1, "model": "m"})
            assert many.of(own) == identity(own) == hashlib.sha256(whole).hexdigest()


def test_everything_that_decides_a_result_is_in_it():
    settings = [
        {"host.queue_depth": 2},
        {"host.can_queue": 2},
        {"policy.sense_ctor": True},
        {"policy.slub_nomerge": True},
        {"workload.copiers": 1},
        {"machine.min_free_kbytes": 65},
        {"machine.zones.0.present": 4000},
        {"machine.free_pages.DMA": 3000},
        {"machine.slab_caches.0.object_size": 8},
        {"costs.irq": 1},
        {"run.duration_s": 89.5},
        {"run.series_ms": 251},
        {"run.max_events": 0},
    ]
    found = [identity(BASE.with_settings(own)) for own in settings]
    found += [identity(BASE), identity(BASE, seed=2), identity(BASE, model="n")]
    found += [identity(load_scenario("swap-livelock").variant(name)) for name in ("fix", "nomerge", "ctor")]
    assert len(set(found)) == len(found)
    assert identity(BASE.with_settings({"run.lanes": 3, "run.seed": 3})) == identity(BASE)


@given(st.lists(st.tuples(st.sampled_from(["p", "q"]), st.integers(0, 9), st.integers(10, 19)), max_size=4))
def test_tasks_share_an_identity_only_when_equal(segments):
    seen = {}
    for part in itertools.permutations(segments):
        assert seen.setdefault(task_identity(part), part) == part


def test_canonical_json_has_one_form():
    assert canonical_json({"b": [1, 2.5], "a": None}) == b'{"a":null,"b":[1,2.5]}'


PLANNED_TWICE = """
import sys
from pathlib import Path
from fastalloc.model_digest import PACKAGE, model_digest
from fastalloc.sweep import plan_sweep
sweep, kernel = map(Path, sys.argv[1:])
assert kernel.is_relative_to(PACKAGE)
print(plan_sweep(sweep).points[0].identity)
source = kernel.read_text()
kernel.write_text(source.replace("SWAP_CLUSTER_MAX = 32", "SWAP_CLUSTER_MAX = 33"))
assert kernel.read_text() != source
model_digest.cache_clear()  # as a process that starts now
print(plan_sweep(sweep).points[0].identity)
"""


def test_a_kernel_that_gives_other_numbers_gives_other_identities(sweep_file, tmp_path):
    """As a whole: a copy of the package plans the same sweep file, before and after a number of a kernel changes."""
    path = sweep_file()
    own = plan_sweep(path)
    copy = tmp_path / "changed" / "fastalloc"
    shutil.copytree(PACKAGE, copy)  # with its byte code, which is compiled in seconds
    done = subprocess.run(
        [sys.executable, "-c", PLANNED_TWICE, path, copy / "kernels" / "reclaim" / "vmscan.py"],
        env=os.environ | {"PYTHONPATH": str(copy.parent)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split()
    assert before == own.points[0].identity
    assert after != before
