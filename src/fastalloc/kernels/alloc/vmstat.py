"""NR_FREE_PAGES, of which each CPU counts a few pages for itself [mm/vmstat.c of 2.6.25, CONFIG_SMP].

ZONE.free is what is free. What a request sees lags behind it by what the CPUs have not entered yet, either way.
"""

from fastalloc.compiler.jit import folded, kernel
from fastalloc.kernels.alloc.state import MEMCTL, PCP, ZONE
from fastalloc.kernels.lane.tasks import CPU


@folded
def mod_zone_page_state(mem, cpu, z, delta):
    """Free pages of a zone change on ``cpu``: they are the CPU's own to count until they are more than stat_threshold
    [__mod_zone_page_state]."""
    pcp = mem.pcp[cpu, z]
    diff = pcp[PCP.vm_stat_diff] + delta
    lag = mem.zone[z, ZONE.vm_stat_lag] + delta
    if abs(diff) > mem.zone[z, ZONE.stat_threshold]:
        lag -= diff
        diff = 0
    pcp[PCP.vm_stat_diff] = diff
    mem.zone[z, ZONE.vm_stat_lag] = lag


@folded
def zone_page_state(mem, z):
    """NR_FREE_PAGES of a zone as whoever looks at its marks sees it, never less than 0 [zone_page_state]."""
    return max(0, mem.zone[z, ZONE.free] - mem.zone[z, ZONE.vm_stat_lag])


@folded
def zone_page_state_snapshot(mem, z):
    """The same for kswapd: where little is left it adds up what the CPUs hold back [zone_watermark_ok_safe, 2.6.38]."""
    seen = zone_page_state(mem, z)
    return mem.zone[z, ZONE.free] if seen < mem.zone[z, ZONE.percpu_drift_mark] else seen


@folded
def set_pgdat_percpu_threshold(mem, awake):
    """kswapd goes to sleep (0) or wakes (1): how many pages a CPU may count for itself from now on [kswapd, 2.6.38]."""
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        mem.zone[z, ZONE.stat_threshold] = mem.zone[z, ZONE.stat_thresholds[awake]]


@kernel
def refresh_cpu_vm_stats(mem, cpu):
    """A CPU enters what it counted for itself [refresh_cpu_vm_stats]."""
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        mem.zone[z, ZONE.vm_stat_lag] -= mem.pcp[cpu, z, PCP.vm_stat_diff]
        mem.pcp[cpu, z, PCP.vm_stat_diff] = 0


@folded
def quiet_vmstat(mem, cpu):
    """A CPU stops its tick [quiet_vmstat, 4.5]."""
    if mem.ctl[MEMCTL.idle_enters] != 0:
        refresh_cpu_vm_stats(mem, cpu)


@folded
def holds_back(mem, cpu):
    """Whether a CPU counts pages for itself."""
    held = 0
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        held += abs(mem.pcp[cpu, z, PCP.vm_stat_diff])
    return held != 0


@folded
def vmstat_update(mem, vm, cpu):
    """Where a second has passed since it did so, a CPU enters what it counted. The timer is a deferrable one: it wakes
    no idle CPU, and runs with the next timer or tick there. What the work costs is not counted [vmstat_update,
    start_cpu_timer]."""
    if mem.ctl[MEMCTL.jiffies] >= vm.cpu[cpu, CPU.vmstat_at]:
        refresh_cpu_vm_stats(mem, cpu)
        vm.cpu[cpu, CPU.vmstat_at] = mem.ctl[MEMCTL.jiffies] + mem.ctl[MEMCTL.hz]
