"""Sweep files to points, and what is refused before anything runs."""

import pytest

from fastalloc.errors import InputError
from fastalloc.sweep import plan_sweep
from tests.sweep.conftest import SWEEP


def points(path):
    return [point.settings for point in plan_sweep(path).points]


def top(axes="", rest="", variants='["rc8"]'):
    return f'name = "s"\nscenario = "scenario.toml"\nvariants = {variants}\n{rest}\n[axes]\n{axes}\n'


def test_the_grid_is_walked_variant_by_variant(sweep_file):
    plan = plan_sweep(sweep_file())
    assert [point.variant for point in plan.points] == ["rc8"] * 4 + ["fix"] * 4
    assert [tuple(point.settings.values()) for point in plan.points[:4]] == [(1, 24), (1, 96), (4, 24), (4, 96)]
    assert plan.most_lanes == 64
    assert plan.at(6).host.queue_depth == 4
    assert plan.at(6).policy.command_rule == "fix"


def test_each_allocator_is_warmed_up_once(sweep_file):
    axis = '"policy.allocator" = ["slab", "cpu-partial", "slub", "sheaves"]\n"host.queue_depth" = [1, 4]'
    plan = plan_sweep(sweep_file(top(axis, variants='["rc8", "fix"]')))
    assert [scenario.policy.allocator for scenario in plan.heaps()] == ["slab", "cpu-partial", "slub"]


def test_ranges(sweep_file):
    def values(spec):
        return [row["disk.iops"] for row in points(sweep_file(top(f'"disk.iops" = {spec}')))]

    assert values("{ start = 10, stop = 40, step = 10 }") == [10, 20, 30, 40]
    assert values("{ start = 10, stop = 45, step = 10 }") == [10, 20, 30, 40]
    assert values("{ start = 10, stop = 40, count = 3 }") == [10, 25, 40]
    assert values("{ start = 10, stop = 1000, count = 3, log = true }") == [10, 100, 1000]
    durations = points(sweep_file(top('"run.duration_s" = { start = 0.5, stop = 1.5, step = 0.5 }')))
    assert [row["run.duration_s"] for row in durations] == [0.5, 1.0, 1.5]


def test_zips_go_together_and_samples_fill_their_box(sweep_file):
    text = top("", "") + '[[zips]]\n"host.queue_depth" = [1, 2]\n"host.can_queue" = [1, 2]\n'
    assert points(sweep_file(text)) == [{"host.queue_depth": n, "host.can_queue": n} for n in (1, 2)]
    for method in ("lhs", "sobol"):
        sample = (
            (
                f'[[samples]]\nmethod = "{method}"\npoints = 8\n[samples.axes]\n"disk.iops" = {{ low = 1, high = 8 }}\n'
                '"disk.bytes_per_second" = { low = 1e6, high = 1e8, log = true }\n'
            )
            .replace("1e6", "1000000")
            .replace("1e8", "100000000")
        )
        found = points(sweep_file(top() + sample))
        assert sorted(row["disk.iops"] for row in found) == list(range(1, 9))
        assert all(10**6 <= row["disk.bytes_per_second"] <= 10**8 for row in found)
        assert sum(row["disk.bytes_per_second"] < 10**7 for row in found) == 4
        assert found == points(sweep_file(top() + sample))


def test_constraints_and_repeated_points_are_counted(sweep_file):
    axes = '"host.queue_depth" = [1, 2, 4]\n"host.can_queue" = [1, 2, 4]'
    plan = plan_sweep(sweep_file(top(axes, 'constraints = ["host.queue_depth <= host.can_queue"]')))
    assert (len(plan.points), plan.excluded, plan.repeated) == (6, 3, 0)
    sample = '[[samples]]\nmethod = "lhs"\npoints = 9\n[samples.axes]\n"disk.iops" = { low = 1, high = 3 }\n'
    plan = plan_sweep(sweep_file(top() + sample))
    assert (len(plan.points), plan.repeated) == (3, 6)


def test_a_comment_keeps_the_identity_and_a_lane_changes_it(sweep_file):
    identity = plan_sweep(sweep_file()).identity
    assert plan_sweep(sweep_file("# a comment\n" + SWEEP + "\n")).identity == identity
    assert plan_sweep(sweep_file(SWEEP.replace("lanes = 8", "lanes = 8\nseed = 1"))).identity == identity
    assert plan_sweep(sweep_file(SWEEP.replace("lanes = 8", "lanes = 9"))).identity != identity


REFUSED = {
    top('"disk.iops" = []'): "axes.disk.iops",
    top('"disk.iops" = { start = 9, stop = 3, step = 1 }'): "is empty",
    top('"disk.iopps" = [1]'): "axes: disk.iopps: disk.iopps names no field",
    top('"disk.iops" = [1, 1]'): "axes: disk.iops: 1 twice",
    top('"disk.iops" = { start = 1, stop = 4, count = 9 }'): "fall together",
    top('"disk.iops" = [0]'): "greater than or equal to 1, not 0",
    top('"disk.iops" = ["fast"]'): "valid integer, not 'fast'",
    top('"disk.irq_cpu" = [0, 5]'): "point rc8: disk.irq_cpu = 5",
    top(
        '"disk.iops" = { start = 1, stop = 1000000, step = 1 }\n"costs.irq" = { start = 1, stop = 1000000, step = 1 }'
    ): ("axes: 1,000,000,000,000 points; at most 100,000"),
    top('"policy.command_rule" = ["rc8"]', variants='["rc8", "fix"]'): "variant fix sets it too",
    top('"disk.iops" = [1]', variants='["rc9"]'): "no variant 'rc9'",
    top('"run.lanes" = [1]'): "use lanes at the top",
    top('"disk.iops" = [1, 2]', 'constraints = ["disk.iops > 2"]'): "leave no point of 2: disk.iops > 2",
    top('"disk.iops" = [1]', 'constraints = ["disk.iops"]'): "is no comparison",
    top('"disk.iops" = [1]', 'constraints = ["disk.iopps > 2"]'): "disk.iopps names no field",
    top('"disk.iops" = [1]', "constraints = [\"disk.iops < 'a'\"]"): "cannot be compared",
    top('"disk.iops" = [1]', "lanez = 3"): "lanez: unknown key",
    top('"disk.iops" = [1]', "stop = {}"): "needs max_livelocks or interval_width",
    top('"disk.iops" = [1]\n[[zips]]\n"host.queue_depth" = [1, 2]\n"host.can_queue" = [1]'): "must be as many",
    top('"disk.iops" = [1]\n[[zips]]\n"disk.iops" = [1, 2]'): "disk.iops is set more than once",
    "name = ": "not TOML",
    'name = "s"\nscenario = "nowhere"\n': "neither a file nor one of",
}


@pytest.mark.parametrize("text", REFUSED)
def test_impossible_sweeps_are_refused_with_file_and_key(sweep_file, text):
    path = sweep_file(text)
    with pytest.raises(InputError) as caught:
        plan_sweep(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert REFUSED[text] in str(caught.value)
