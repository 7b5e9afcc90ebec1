"""Machines of any shape: marks by an independent calculation, zoneinfo written and read back, nodes joined."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fastalloc.batch.zones import lane_zones
from fastalloc.scenario import Machine, import_machine, load_machine, machine_toml
from fastalloc.scenario.rules import simplified
from tests.scenario.generated import KERNEL_ONLY, machines, marks
from tests.scenario.zoneinfo_text import write_zoneinfo


def generated(examples):
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )  # fmt: skip


def check(data, folder: Path) -> bool:
    """Whether there is such a machine; where its marks leave room they are the kernel's."""
    wanted = marks(data)
    too_high = any(
        high > zone["present"] and zone["name"] not in KERNEL_ONLY
        for (_, _, high), zone in zip(wanted, data["zones"], strict=True)
    )
    if too_high:
        with pytest.raises(ValidationError):
            Machine.model_validate(data)
        return False
    machine = Machine.model_validate(data)
    assert [(zone.min, zone.low, zone.high) for zone in machine.zones] == wanted
    joined = {zone.name: zone for zone in lane_zones(machine)}
    for name, zone in joined.items():
        own = [each for each in machine.zones if each.name == name]
        assert zone.frames == sum(each.present - each.cma - each.highatomic for each in own)
        assert (zone.min, zone.low, zone.high) == tuple(
            sum(getattr(each, mark) for each in own) for mark in ("min", "low", "high")
        )
    nodes = sorted({zone["node"] for zone in data["zones"]})
    told = f"{len(nodes)} memory nodes ({', '.join(map(str, nodes))}) are joined into one"
    assert (told in simplified([machine])) == (len(nodes) > 1)
    (folder / "m.toml").write_text(machine_toml(machine))
    assert load_machine(folder / "m.toml") == machine
    (folder / "zoneinfo").write_text(write_zoneinfo(machine))
    read = import_machine(folder, "m", kernel=machine.kernel)
    assert read.zones == machine.zones
    assert read.cpus == machine.cpus
    assert read.nodes == nodes
    return True


@generated(25)
@given(data=machines(most_cpus=64))
def test_machines_of_any_shape(data, tmp_path):
    check(data, tmp_path)


@pytest.mark.slow
def test_many_machines_of_any_shape(tmp_path):
    found = {True: 0, False: 0}

    @generated(600)
    @given(machines())
    def each(data):
        found[check(data, tmp_path)] += 1

    each()
    assert found[True] > 400


@generated(60)
@given(machines(most_cpus=2), st.integers(128, 1 << 17))
def test_a_sysctl_is_written_later(data, kbytes):
    """A machine read with the marks that it has, then told another min_free_kbytes."""
    try:
        before = Machine.model_validate(data)
        Machine.model_validate(data | {"min_free_kbytes": kbytes})
    except ValidationError:
        return
    read = before.model_dump() | {"min_free_kbytes": None, "watermark_scale_factor": None}
    told = {name: data[name] for name in ("watermark_scale_factor",) if name in data}
    again = Machine.model_validate(read | told | {"min_free_kbytes": kbytes})
    wanted = marks(data | {"min_free_kbytes": kbytes})
    assert [(zone.min, zone.low, zone.high) for zone in again.zones] == wanted
