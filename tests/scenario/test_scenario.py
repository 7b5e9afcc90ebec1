"""Scenarios: presets, TOML, variants, and what is refused."""

import pytest

from fastalloc.errors import InputError
from fastalloc.scenario import Scenario, load_machine, load_scenario, machine_names, machine_toml, preset_names
from tests.closed_loop.small import OWN_CORES, small

MACHINE = 'name = "test"\nmachine = "linux-2.6.25-rc8-512m"\n'


def write(tmp_path, text):
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return path


def refused(path) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_with_every_variant(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    for variant in scenario.variants:
        own = scenario.variant(variant.name)
        assert [v.name for v in own.variants] == [variant.name]
        assert own.variant(variant.name) == own
        assert Scenario.model_validate(own.model_dump()) == own


def test_the_default_scenario_is_the_real_kernels_run():
    scenario = load_scenario("swap-livelock")
    dma, dma32 = scenario.machine.zones
    assert (dma32.min, dma32.low, dma32.high) == (15, 18, 22)
    assert (dma.min, dma.low, dma.high) == (0, 0, 0)
    assert dma.protection[1] == 489
    assert [v.name for v in scenario.variants if v.default] == ["rc8", "fix", "nomerge", "ctor"]
    assert scenario.variant("fix").policy.command_rule == "fix"
    assert scenario.variant("nomerge").policy.slub_nomerge
    assert scenario.variant("ctor").policy.sense_ctor
    assert scenario.variant("depth16").host.queue_depth == 16
    booted = scenario.variant("default-min-free").machine.zones[1]
    assert (booted.min, booted.low, booted.high) == (698, 872, 1047)


@pytest.mark.parametrize("name", machine_names())
def test_machine_presets_round_trip(name, tmp_path):
    machine = load_machine(name)
    path = tmp_path / "machine.toml"
    path.write_text(machine_toml(machine))
    assert load_machine(path) == machine


def test_machine_by_path_beside_the_scenario(tmp_path):
    (tmp_path / "mine.toml").write_text(machine_toml(load_machine("linux-2.6.25-rc8-256m")))
    path = write(tmp_path, 'name = "test"\n[machine]\nfrom = "mine.toml"\ncpus = 4\n')
    machine = load_scenario(path).machine
    assert machine.cpus == 4
    assert machine.zones == load_machine("linux-2.6.25-rc8-256m").zones


def test_a_scenario_without_variants_has_one():
    scenario = load_scenario("swap-livelock")
    plain = Scenario(name="plain", machine=scenario.machine)
    assert [v.name for v in plain.variants] == ["base"]
    assert plain.variant("base").policy == plain.policy


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        (MACHINE + "[policy]\ncomand_rule = 'fix'\n", "policy.comand_rule", "unknown key"),
        (MACHINE + "[queue]\nnr_requests = -1\n", "queue.nr_requests", "greater than or equal to 4, not -1"),
        (MACHINE + "[host]\nqueue_depth = '3'\n", "host.queue_depth", "valid integer"),
        (MACHINE + "[workload]\ncopiers = true\n", "workload.copiers", "valid integer"),
        (MACHINE + "[run]\nduration_s = nan\n", "run.duration_s", "finite"),
        (
            MACHINE + "[policy]\ncommand_rule = 'fox'\n",
            "policy.command_rule",
            "'rc8', 'fix', 'prealloc' or 'consolidated'",
        ),
        (MACHINE + "[disk]\nirq_cpu = 2\n", "disk.irq_cpu", "2 CPUs"),
        (MACHINE + "[workload]\ncopiers = 0\nwriters = 0\n", "workload", "nothing uses memory"),
        (MACHINE + "[[variants]]\nname = 'x'\nset = {'policy.x' = 1}\n", "variant x: policy.x", "unknown key"),
        (MACHINE + "[[variants]]\nname = 'x'\nset = {'polici.x' = 1}\n", "variant x: polici.x", "names no field"),
        (MACHINE + "[[variants]]\nname = 'x'\nset = {'run.lanes' = 1}\n", "variant x: run.lanes", "cannot differ"),
        (
            MACHINE + "[[variants]]\nname = 'x'\nset = {'host.queue_depth' = 0}\n",
            "variant x: host.queue_depth",
            "not 0",
        ),
        (MACHINE + "[[variants]]\nname = 'x'\n[[variants]]\nname = 'x'\n", "variants", "twice"),
        ('name = "test"\n', "machine", "is missing"),
        ('name = "test"\nmachine = "none"\n', "machine", "neither a file nor one of"),
        ('name = "test"\n[machine]\nfrom = 3\n', "machine.from", "name of a machine"),
        ("name = 'test'\nx = = 3\n", "not TOML", "line 2"),
    ],
)
def test_bad_scenarios_name_file_and_field(tmp_path, text, where, message):
    path = write(tmp_path, text)
    (line,) = refused(path)
    assert line.startswith(f"{path}: ")
    assert where in line
    assert message in line


def test_several_faults_are_all_told(tmp_path):
    path = write(tmp_path, MACHINE + "[queue]\nnr_requests = 1\nwhat = 2\n[disk]\niops = 0\n")
    lines = refused(path)
    assert [line.split(": ")[1] for line in lines] == ["queue.nr_requests", "queue.what", "disk.iops"]


def test_missing_file_and_folder(tmp_path):
    assert refused(tmp_path / "none.toml") == [
        f"{tmp_path / 'none.toml'}: no such scenario: neither a file nor one of {', '.join(preset_names())}"
    ]
    assert refused(tmp_path) == [f"{tmp_path}: is a folder, not a scenario file"]


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_bytes(b"name = '\xff'")
    assert refused(path) == [f"{path}: byte 8: not UTF-8 text"]


def test_unknown_variant():
    with pytest.raises(InputError, match=r"no variant 'rc9' .*; there are rc8, fix"):
        load_scenario("swap-livelock").variant("rc9")


def test_settings_apply_to_lists_and_are_checked():
    scenario = load_scenario("swap-livelock")
    changed = scenario.with_settings({"machine.free_pages.DMA": 100, "workload.copiers": 3})
    assert changed.machine.free_pages["DMA"] == 100
    assert changed.workload.copiers == 3
    with pytest.raises(InputError, match=r"machine\.zones\.7\.min: names no field"):
        scenario.with_settings({"machine.zones.7.min": 3})


def test_the_preset_of_34_mb_is_the_machine_of_the_closed_loop_tests():
    parts = {"machine", "queue", "host", "disk", "workload", "costs", "policy"}
    shipped, own = load_scenario("swap-livelock-34m").variant("rc8"), small("rc8", OWN_CORES)
    assert shipped.model_dump(include=parts) == own.model_dump(include=parts)
