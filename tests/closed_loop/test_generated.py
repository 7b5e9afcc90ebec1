"""Scenarios of any shape, each tick checked: a lane ends with all pages, slots and requests accounted for, or the
machine is refused with the reason."""

import json
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fastalloc.batch import refuse_unfit, run_lanes
from fastalloc.errors import InputError
from fastalloc.policy import NOT_SLUB, Policy
from fastalloc.scenario import Scenario
from fastalloc.scenario.machine import Machine
from fastalloc.scenario.models import Costs, Queue

USERS = ("bio", "biovec", "request", "scsi_cmnd", "sense", "sg table")
sizes = st.one_of(st.integers(1, 64), st.sampled_from([128, 512, 1024, 2048, 4096]))
page_sizes = st.sampled_from([4, 4, 8, 16, 64])
users = st.lists(st.sampled_from(USERS), unique=True, max_size=6)


@st.composite
def zones(draw):
    names = draw(
        st.sampled_from(
            [("DMA32",), ("Normal",), ("DMA", "DMA32"), ("DMA", "Normal"), ("Normal", "HighMem"), ("Normal", "Movable")]
        )
    )
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


def values_of(field):
    """A strategy for a field of a policy: its choices, or numbers near the ends of its range."""
    kind = get_args(field.annotation)[0] if get_origin(field.annotation) is Annotated else field.annotation
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if get_origin(kind) is list:
        return (
            users if get_origin(get_args(kind)[0]) is Literal else st.lists(st.sampled_from([18, 96, 260]), max_size=4)
        )
    low = max([part.ge for part in field.metadata if hasattr(part, "ge")], default=0)
    high = min([part.le for part in field.metadata if hasattr(part, "le")], default=1 << 20)
    return st.one_of(st.integers(low, min(high, low + 8)), st.sampled_from([low, min(high, 64)]))


OWN = (Path(__file__).parents[2] / "docs" / "own" / "lifetime_classes.py").read_text(encoding="utf-8")
# Each field there is, so that a new one is tried from its first day on.
policies = st.fixed_dictionaries(
    {"allocator": values_of(Policy.model_fields["allocator"])},
    optional={
        name: values_of(field) for name, field in Policy.model_fields.items() if name not in ("allocator", "questions")
    },
)
asked = ({"pages": 8}, {"pages": 300}, {"objects": 40, "object_bytes": 2048}, {"objects": 500, "object_bytes": 64})
bursts = st.fixed_dictionaries(
    {"every_ms": st.sampled_from([5.0, 100.0]), "life_ms": st.sampled_from([0.0, 20.0]), "cpus": st.integers(1, 4)}
).flatmap(lambda burst: st.sampled_from(asked).map(lambda what: burst | what))


def choices_of(model, but=()):
    """Values of a model's switches and choices, whatever there are."""
    kinds = {name: field for name, field in model.model_fields.items() if name not in but}
    chosen = {n: values_of(f) for n, f in kinds.items() if f.annotation is bool or get_origin(f.annotation) is Literal}
    return st.fixed_dictionaries({}, optional=chosen)


def fitting(data):
    """The scenario, without the fields of its policy that its allocator does not know."""
    for _ in range(len(data["policy"])):
        try:
            return Scenario.model_validate(data)
        except ValidationError as error:
            told = error.errors()[0]["msg"].removeprefix("Value error, ").split(":")[0]
            if told not in data["policy"]:
                assume(False)
            del data["policy"][told]
    return Scenario.model_validate(data)


@st.composite
def scenarios(draw):
    """A scenario of one variant."""
    cpus = draw(st.sampled_from([1, 2, 3, 8]))
    policy = draw(policies)
    slow = draw(st.sampled_from([False, False, False, True]))  # nothing takes time: as many steps as there can be
    four = policy["allocator"] in NOT_SLUB
    if policy["allocator"] == "own":
        policy["questions"] = OWN
    data = {
        "name": "generated",
        "machine": {
            "name": "m", "cpus": cpus, "hz": draw(st.sampled_from([100, 250, 300, 1000])), "zones": draw(zones()),
            "swap_pages": draw(st.sampled_from([0, 1, 256, 4096])), "page_kb": 4 if four else draw(page_sizes),
            "cache_line": draw(st.sampled_from([32, 64, 256])),
        }
        | draw(choices_of(Machine, ("cpus", "hz", "bits", "page_kb", "cache_line", "allocator"))),
        "queue": {
            "nr_requests": draw(st.sampled_from([4, 128])), "max_segments": draw(st.sampled_from([1, 128])),
        }
        | draw(choices_of(Queue)),
        "host": {
            "queue_depth": draw(st.integers(1, 4)), "can_queue": draw(st.integers(1, 4)),
            "free_list": draw(st.integers(0, 4)),
        },
        "disk": {
            "iops": draw(st.sampled_from([10, 100, 10_000])), "irq_cpu": draw(st.integers(0, cpus - 1)),
            "completion_delay_us": draw(st.sampled_from([0, 50])),
        },
        "policy": policy,
        "workload": {
            "copiers": draw(st.integers(0, 8)), "writers": draw(st.integers(1, 4)),
            "tree_files": draw(st.integers(1, 20)), "mean_file_pages": draw(st.integers(1, 8)),
            "writer_pages": draw(sizes), "start_spread_ms": draw(st.sampled_from([0, 50])),
            "atomic_objects_per_s": draw(st.sampled_from([0, 200, 20_000])),
            "atomic_pages_per_s": draw(st.sampled_from([0, 50, 5_000])),
            "adversary": draw(st.sampled_from(["none", "none", "none", "atomic", "reclaim"])),
            "bursts": draw(st.lists(bursts, max_size=2)), "swappiness": draw(st.sampled_from([0, 60, 100])),
        },
        "costs": dict.fromkeys(Costs.model_fields, 1) if slow else {},
        "run": {
            "duration_s": 0.01 if slow else draw(st.sampled_from([0.3, 1.0])), "lanes": 1,
            "seed": draw(st.integers(0, 1 << 62)),
        },
    }  # fmt: skip
    return fitting(data)


def sound(scenario):
    """Whether a lane ran, every tick checked; a violation raises LaneError with its name, a refusal says why."""
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
    return not told


def generated(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip


@generated(30)
@given(scenarios())
def test_scenarios_of_any_shape(scenario):
    sound(scenario)


def many(examples=500):
    """How many scenarios ran, and how many were refused."""
    counts = {"ran": 0, "refused": 0}

    @generated(examples)
    @given(scenarios())
    def each(scenario):
        counts["ran" if sound(scenario) else "refused"] += 1

    each()
    return {"scenarios": sum(counts.values())} | counts


@pytest.mark.slow
def test_many_scenarios_of_any_shape():
    counts = many()
    assert counts["scenarios"] >= 500
    assert counts["ran"] >= 100


if __name__ == "__main__":  # python -m tests.closed_loop.test_generated
    (Path(__file__).parents[2] / "results" / "generated.json").write_text(json.dumps(many(), indent=1) + "\n")
