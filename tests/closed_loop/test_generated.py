"""Scenarios of any shape, each tick checked: a lane ends with all pages, slots and requests accounted for, or the
machine is refused with the reason."""

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fastalloc.batch import refuse_unfit, run_lanes
from fastalloc.errors import InputError
from fastalloc.scenario import Scenario

USERS = ("bio", "biovec", "request", "scsi_cmnd", "sense", "sg table")
sizes = st.one_of(st.integers(1, 64), st.sampled_from([128, 512, 1024, 2048, 4096]))
users = st.lists(st.sampled_from(USERS), unique=True, max_size=6)


@st.composite
def zones(draw):
    names = draw(st.sampled_from([("DMA32",), ("Normal",), ("DMA", "DMA32"), ("DMA", "Normal")]))
    found = []
    for name in names:
        present = draw(sizes)
        high = draw(st.integers(0, max(1, present // 4)))
        low = draw(st.integers(0, high))
        batch = draw(st.sampled_from([1, 7, 31]))
        found.append(
            {
                "name": name, "present": present, "min": draw(st.integers(0, low)), "low": low, "high": high,
                "protection": [draw(st.integers(0, 64)) for _ in names], "pcp_high": draw(st.sampled_from([0, 6, 186])),
                "pcp_batch": batch,
            }
        )  # fmt: skip
    return found


policies = st.fixed_dictionaries(
    {},
    optional={
        "allocator": st.sampled_from(["slub", "cpu-partial", "sheaves", "slab", "slob"]),
        "command_rule": st.sampled_from(["rc8", "fix", "prealloc", "consolidated"]),
        "sense": st.sampled_from(["separate", "inline", "lazy"]),
        "sense_pool": st.integers(0, 4),
        "sense_error_ppm": st.sampled_from([0, 100, 1_000_000]),
        "slub_nomerge": st.booleans(),
        "nomerge_sense": st.booleans(),
        "nomerge_bio": st.booleans(),
        "bio_inline_vecs": st.booleans(),
        "kblockd_memalloc": st.booleans(),
        "mempool_rule": st.sampled_from(["2.6.25", "keep-wait", "no-harder", "pool-first", "polite", "retry"]),
        "mempool_wake_one": st.booleans(),
        "watermark_rule": st.sampled_from(["2.6.25", "6.3"]),
        "emergency_pages": st.integers(0, 64),
        "memalloc": users,
        "entitlement": st.sampled_from(["anyone", "rank", "rank-posted", "no-watermarks", "pfmemalloc"]),
        "spare_pages": st.integers(0, 16),
        "spare_users": users,
        "swap_bio_limit": st.integers(0, 64),
        "reclaim_gate": st.booleans(),
        "reserve_commands": st.integers(0, 8),
        "emergency_caches": st.sampled_from(["none", "v1", "v2"]),
        "on_stack_bio": st.booleans(),
        "write_gate": st.sampled_from(["none", "min", "low", "high"]),
        "host_sense_bytes": st.lists(st.sampled_from([18, 96, 260]), max_size=4),
        "host_pools": st.sampled_from(["driver", "host"]),
    },
)


@st.composite
def scenarios(draw):
    """A scenario of one variant; what the fields forbid together is left out."""
    cpus = draw(st.sampled_from([1, 2, 3, 8]))
    data = {
        "name": "generated",
        "machine": {
            "name": "m", "cpus": cpus, "hz": draw(st.sampled_from([100, 250, 1000])), "zones": draw(zones()),
            "swap_pages": draw(st.sampled_from([0, 1, 256, 4096])),
            "cache_line": draw(st.sampled_from([32, 64, 256])),
        },
        "queue": {"nr_requests": draw(st.sampled_from([4, 128])), "max_segments": draw(st.sampled_from([1, 128]))},
        "host": {"queue_depth": draw(st.integers(1, 4)), "free_list": draw(st.integers(0, 4))},
        "disk": {"iops": draw(st.sampled_from([10, 100, 10_000])), "irq_cpu": draw(st.integers(0, cpus - 1))},
        "policy": draw(policies),
        "workload": {
            "copiers": draw(st.integers(0, 8)), "writers": draw(st.integers(1, 4)),
            "tree_files": draw(st.integers(1, 20)), "mean_file_pages": draw(st.integers(1, 8)),
            "writer_pages": draw(sizes), "start_spread_ms": draw(st.sampled_from([0, 50])),
            "atomic_objects_per_s": draw(st.sampled_from([0, 200, 20_000])),
            "atomic_pages_per_s": draw(st.sampled_from([0, 50, 5_000])),
            "squeeze": draw(st.sampled_from(["none", "none", "none", "atomic", "reclaim"])),
        },
        "run": {"duration_s": draw(st.sampled_from([0.3, 1.0])), "lanes": 1, "seed": draw(st.integers(0, 1 << 62))},
    }  # fmt: skip
    try:
        return Scenario.model_validate(data)
    except ValidationError:
        assume(False)


def sound(scenario):
    """Every tick of a lane is checked; a violation raises LaneError with its name."""
    told = ""
    try:
        refuse_unfit([scenario], 1)
        (result,) = run_lanes(scenario, [0], seed=scenario.run.seed, threads=1, debug=True)
    except InputError as refused:  # too small to boot, or noise beyond its room
        told = str(refused)
    if told:
        assert "machine." in told or "workload" in told
    else:
        assert result.lane == 0


def generated(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip


@generated(30)
@given(scenarios())
def test_scenarios_of_any_shape(scenario):
    sound(scenario)


@pytest.mark.slow
@generated(500)
@given(scenarios())
def test_many_scenarios_of_any_shape(scenario):
    sound(scenario)
