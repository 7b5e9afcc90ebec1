"""Whether a machine booted: each pool and each host holds what its kernel sets aside before anything runs.

The kernel gives up otherwise: mempool_create fails and the driver with it [mm/mempool.c], a host is not added
[scsi_setup_command_freelist]. A lane must not go on, since what is set aside is handed out without another look.
"""

from fastalloc.errors import InputError
from fastalloc.kernels.alloc.mempool import MEMPOOL, Pools
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import HOST, IO, POOL
from fastalloc.scenario.models import Scenario


def refuse_unbooted(scenario: Scenario, pools: Pools, io: ms.Io, vm: ms.Vm) -> None:
    """Raise InputError naming what got no object at boot."""
    for field in POOL.fields:
        p, name = field.number, field.label
        wanted = pools.pool[p, MEMPOOL.min]
        if (pools.element[p, :wanted] < 0).any():
            raise _too_small(scenario, f"the mempool {name} gets no {wanted} objects")
    columns = 2 if io.ctl[POLICY.sense] == ms.SENSE_SEPARATE else 1
    if (io.free_list[: io.ctl[IO.free_list_size], :columns] < 0).any():
        raise _too_small(scenario, f"the host gets no {io.ctl[IO.free_list_size]} commands for its free_list")
    if (vm.host_command[:, -1, :columns] < 0).any():
        raise _too_small(scenario, f"the {len(vm.host[:, HOST.sense])} further hosts get no command each")


def _too_small(scenario: Scenario, what: str) -> InputError:
    return InputError(scenario.name, "machine.zones", f"too little memory to boot: {what}")
