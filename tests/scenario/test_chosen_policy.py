"""Which kernel's policy a machine runs under."""

from pathlib import Path
from typing import get_args

import pytest

from fastalloc.cli.options import parse_settings
from fastalloc.errors import InputError
from fastalloc.linux.slub_layouts import ERAS, layout_of
from fastalloc.linux.versions import kernel_near
from fastalloc.policy import Layout
from fastalloc.scenario import Machine, Scenario, load_policy, load_scenario, machine_toml
from fastalloc.scenario.chosen import chosen_settings, policy_of_kernel
from fastalloc.scenario.policy_presets import kernel_policies
from fastalloc.scenario.rules import rules_line
from fastalloc.store.write import DatasetWriter


@pytest.mark.parametrize(
    ("release", "bundle"),
    [
        ("2.6.9", "2.6.24"),
        ("2.6.25-rc8", "2.6.25-rc8"),
        ("2.6.25.20", "2.6.25"),
        ("2.6.32-28-generic", "2.6.26"),
        ("3.10.0-957.el7.x86_64", "3.6"),
        ("4.9.0-0.rc8.git2.1.fc26.x86_64", "3.6"),
        ("5.10.0-8-amd64", "5.0"),
        ("6.6.60-v8", "6.1"),
        ("6.12.117+deb12-amd64", "6.12"),
        ("6.17.0", "6.12"),
        ("6.18.2", "6.18"),
        ("7.0.1", "7.2"),  # moves slabs as 7.2, so far as the table of kernels knows
        ("", "2.6.25-rc8"),
    ],
)
def test_bundle_of_a_kernel(release, bundle):
    assert policy_of_kernel(release) == bundle


def write(folder: Path, kernel: str, text: str = "", allocator: str | None = None) -> Path:
    zone = {"name": "Normal", "present": 9000, "min": 90, "low": 112, "high": 135, "protection": [0]}
    machine = Machine.model_validate(
        {"name": "m", "kernel": kernel, "allocator": allocator, "zones": [zone | {"pcp_high": 0, "pcp_batch": 1}]}
    )
    (folder / f"m{kernel}.toml").write_text(machine_toml(machine))
    file = folder / f"s{kernel}.toml"
    file.write_text(f'name = "s"\nmachine = "m{kernel}.toml"\n{text}')
    return file


def set_by(name: str, scenario: Scenario, but: tuple[str, ...] = ()) -> bool:
    own = scenario.policy.model_dump()
    fields = {key.removeprefix("policy."): value for key, value in load_policy(name).set.items()}
    return all(own[field] == value for field, value in fields.items() if field not in but)


@pytest.mark.parametrize("bundle", kernel_policies())
def test_a_machine_runs_under_its_own_kernel(tmp_path, bundle):
    scenario = load_scenario(write(tmp_path, bundle))
    assert set_by(bundle, scenario, but=("slub_layout",))
    assert layout_of(scenario.policy.slub_layout) == kernel_near(bundle).layout, "as the table of kernels has it"
    assert scenario.kernel_policy == f"{bundle}, the kernel of the machine"


def test_rules_that_came_between_two_bundles(tmp_path):
    """4.18 runs the bundle of 3.6, but who may go below min changed with 4.4; 3.3 changed what a mempool tries."""
    scenario = load_scenario(write(tmp_path, "4.18.0-305.el8.x86_64"))
    assert scenario.kernel_policy == "3.6, the kernel of the machine"
    assert scenario.policy.watermark_rule == "6.3"
    assert load_scenario(write(tmp_path, "4.3")).policy.watermark_rule == "2.6.25"
    assert [load_scenario(write(tmp_path, kernel)).policy.mempool_rule for kernel in ("3.2", "3.4")] == [
        "2.6.25", "retry",
    ]  # fmt: skip
    own = load_scenario(write(tmp_path, "6.12"))
    other = own.with_settings(chosen_settings(own, {"machine": "m4.18.0-305.el8.x86_64.toml"}, tmp_path))
    assert other.policy == scenario.policy
    assert load_scenario(write(tmp_path, "4.18", 'policy = "3.6"\n')).policy.watermark_rule == "2.6.25"


@pytest.mark.parametrize(
    ("kernel", "layout"),
    [("2.6.25.20", "2.6.25"), ("2.6.32-754.el6", "2.6.32"), ("3.10.0-957.el7", "3.10"), ("4.18.0-305.el8", "4.16"),
     ("5.10.0-8-amd64", "5.9"), ("6.6.60", "6.5"), ("6.17", "6.12"), ("7.1", "7.3")],
)  # fmt: skip
def test_caches_are_laid_out_as_the_kernel_does(tmp_path, kernel, layout):
    scenario = load_scenario(write(tmp_path, kernel))
    assert scenario.policy.slub_layout == layout
    assert f"caches laid out and merged as of {layout}" in rules_line(scenario)
    assert load_scenario(write(tmp_path, kernel, allocator="slab")).policy.slub_layout == "2.6.25", "SLAB's are its own"


def test_every_row_of_layouts_can_be_asked_for():
    assert set(get_args(Layout)) == {*ERAS, "6.1", "7.3"}


def test_a_scenario_chooses_another(tmp_path):
    scenario = load_scenario(write(tmp_path, "6.12", 'policy = "3.2"\n'))
    assert set_by("3.2", scenario)
    assert scenario.kernel_policy == "3.2"
    text = '[policy]\nfrom = "6.18"\nbio_pool = 16\n'
    text += '[[variants]]\nname = "old"\npolicy = "2.6.25"\n[[variants]]\nname = "own"\n'
    scenario = load_scenario(write(tmp_path, "6.1", text))
    assert set_by("6.18", scenario.variant("own"))
    assert scenario.variant("own").policy.bio_pool == 16
    assert set_by("2.6.25", scenario.variant("old"))
    assert scenario.variant("old").policy.bio_pool == 16, "no kernel's bundle tells of it"


def test_a_field_of_the_scenario_stays(tmp_path):
    scenario = load_scenario(write(tmp_path, "6.12", "[policy]\nslub_nomerge = true\n"))
    assert set_by("6.12", scenario)
    assert scenario.policy.slub_nomerge


def test_a_slab_kernel_runs_slab(tmp_path):
    scenario = load_scenario(write(tmp_path, "3.10", allocator="slab"))
    assert scenario.policy.allocator == "slab"
    assert scenario.policy.command_rule == load_policy("3.6").set["policy.command_rule"]


def test_another_machine_brings_its_kernel(tmp_path):
    own = load_scenario(write(tmp_path, "6.12", "[policy]\nsense_bytes = 200\n"))
    write(tmp_path, "3.2")
    settings = chosen_settings(own, {"machine": "m3.2.toml"}, tmp_path)
    other = own.with_settings(settings)
    assert other.machine.kernel == "3.2"
    assert set_by("3.2", other)
    assert own.policy.slub_layout == "6.12"
    assert other.policy.sense_bytes == 200
    assert other.kernel_policy == "3.2, the kernel of the machine"


def test_what_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="no such policy"):
        load_scenario(write(tmp_path, "6.12", 'policy = "9.9"\n'))
    with pytest.raises(InputError, match="must be the name of a policy"):
        load_scenario(write(tmp_path, "6.12", "[policy]\nfrom = 6\n"))
    with pytest.raises(InputError, match="neither a file nor"):
        chosen_settings(load_scenario("swap-livelock"), {"machine": "none.toml"}, tmp_path)


def test_a_variant_with_a_machine_of_its_own_is_kept(tmp_path):
    """The dataset's scenario.toml, read back, is the scenario that ran."""
    write(tmp_path, "3.2")
    scenario = load_scenario(write(tmp_path, "6.12", '[[variants]]\nname = "a"\nset = { machine = "m3.2.toml" }\n'))
    DatasetWriter(tmp_path / "out", scenario, ["a"], "fastalloc run")
    again = load_scenario(tmp_path / "out/scenario.toml")
    assert again.variant("a").machine == scenario.variant("a").machine
    assert again.variant("a").policy == scenario.variant("a").policy
    more = scenario.with_settings(
        chosen_settings(scenario, {"machine": "m3.2.toml"} | {"machine.min_free_kbytes": 400}, tmp_path)
    )
    assert (more.machine.kernel, more.machine.min_free_kbytes) == ("3.2", 400)


def test_a_version_in_a_setting_is_no_number():
    settings = parse_settings(["policy=6.10", "machine.kernel=3.10", "run.duration_s=6.10"])
    assert settings == {"policy": "6.10", "machine.kernel": "3.10", "run.duration_s": 6.1}
