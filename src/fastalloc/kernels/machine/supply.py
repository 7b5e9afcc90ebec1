"""What is left for the sense buffer of the next command: how near a lane is to the livelock."""

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc.kmem_inspect import free_objects
from fastalloc.kernels.alloc.state import MEMCTL, ZONE
from fastalloc.kernels.alloc.vmstat import zone_page_state
from fastalloc.kernels.alloc.watermarks import zone_watermark
from fastalloc.kernels.lane.state import ROLE

OBJECTS_A_PAGE = 32  # of 128 bytes


@kernel
def supply(mem, heap, vm):
    """Objects that a GFP_ATOMIC request for a sense buffer can have: free ones of its cache, and 32 for each page above
    the mark at which such a request is refused, as the zone counts them [zone_watermark_ok with HIGH and HARDER]."""
    left = free_objects(heap, vm.roles[ROLE.sense])
    last = mem.ctl[MEMCTL.nr_zones] - 1 - mem.ctl[MEMCTL.user_zones]
    for z in range(last + 1):
        level = zone_watermark(mem.zone[z, ZONE.min], True, True) + mem.zone[z, ZONE.reserve[last]]
        if mem.zone[z, ZONE.present] > 0:
            left += OBJECTS_A_PAGE * max(0, min(mem.zone[z, ZONE.free], zone_page_state(mem, z) - level))
    return left
