"""Several hosts: what swapping on one does to the sense buffers of the others (B7)."""

import pytest

from fastalloc.batch.caches import build_caches
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import HOST, VM
from tests.closed_loop.small import advance, image, metric, run
from tests.policies.test_closed_loop import LANES, scenario


def totals(policies, sizes, *, pools="driver", lanes=LANES):
    settings = {"policy.host_sense_bytes": sizes, "policy.host_pools": pools}
    found = [run(scenario(policies).with_settings(settings), lane) for lane in lanes]
    return {
        name: sum(metric(result, name) for result in found)
        for name in ("host_commands", "host_sense_fail", "host_refused")
    }


def test_a_host_with_260_bytes_is_immune_to_bios_and_one_with_96_is_not():
    exposed, immune = (totals("hosts-96-260", [size], lanes=range(64)) for size in (96, 260))
    assert exposed["host_commands"] == immune["host_commands"] > 10_000  # the same arrivals
    assert exposed["host_refused"] == exposed["host_sense_fail"] > 1000
    # a slab for it may still be refused: of what the other is refused, under a thousandth
    assert immune["host_refused"] == immune["host_sense_fail"] < exposed["host_refused"] / 1000


def test_a_pool_for_each_host_does_not_keep_96_bytes_apart():
    """The caches of a host's own merge by their size, whatever their name."""
    settings = {"policy.host_sense_bytes": [96, 96, 260], "policy.host_pools": "host"}
    caches = build_caches(scenario("hosts-96-260").with_settings(settings))
    own = [caches.index_of(f"scsi_sense_cache-host{number}") for number in (1, 2, 3)]
    assert own == [caches.index_of(name) for name in ("bio", "bio", "scsi_cmd_cache")]
    assert totals("hosts-96-260", [96, 96], pools="host")["host_sense_fail"] > 0


def test_a_command_set_aside_saves_some_at_each_host():
    """C2 is a rule of every host: its one command serves until it is out, so fewer are refused than fail."""
    fixed = totals("fix+hosts-96-260", [96])
    assert 0 < fixed["host_refused"] < fixed["host_sense_fail"]


def test_a_sense_cache_of_its_own_serves_all_hosts():
    assert totals("nomerge-sense+hosts-96-260", [96])["host_sense_fail"] == 0


@pytest.mark.parametrize("allocator", ["slub", "slab"])
def test_hosts_give_back_what_they_took(allocator):
    """At every tick, and once all commands are over only the one set aside is held."""
    chosen = scenario("hosts-96-260").with_settings({"policy.allocator": allocator, "run.duration_s": 4.0})
    assert image(run(chosen, 3, debug=True)) == image(run(chosen, 3, skip=False))
    arrays = build_lane(chosen, 3, 1)
    advance(3, arrays, 2000)
    arrays.vm.host[:, HOST.next] = ms.NEVER
    advance(3, arrays, 4000)
    assert arrays.vm.host[:, HOST.count].tolist() == [0, 0]
    assert arrays.vm.host[:, HOST.aside].tolist() == [1, 1]
    assert arrays.vm.ctl[VM.next_host] == ms.NEVER
    assert arrays.out.metric[METRIC.host_commands] > 0
