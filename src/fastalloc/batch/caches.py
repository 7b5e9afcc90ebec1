"""The slab caches of a scenario's kernel: what exists, and where the objects of the swap-out path land.

Merging is decided by sizes, alignment, flags and constructors alone (:class:`CacheSet`), in the order of creation:
kmalloc caches, then what the machine was found with, then the caches of block layer and SCSI.
"""

from dataclasses import replace

from fastalloc.batch.background import background_caches
from fastalloc.kernels.alloc.emergency_caches import SIZES as EMERGENCY_SIZES
from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slub import CacheRequest, CacheSet
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.own.compiled import own_policy
from fastalloc.policy import Policy
from fastalloc.scenario.models import Scenario

HWCACHE = sf.HWCACHE_ALIGN
COMMAND_2_6_24 = 368  # struct scsi_cmnd with its 96 bytes of sense data

# kmem_cache_create calls of 2.6.25-rc8, x86_64 [fs/dcache.c, fs/bio.c, block/blk-core.c, drivers/scsi,
# lib/radix-tree.c, mm/shmem.c]
PATH_CACHES = (
    CacheRequest("names_cache", 4096, 0, HWCACHE | sf.PANIC, usersize=4096),  # a usercopy window since 4.16
    CacheRequest("dentry", 200, 0, sf.RECLAIM_ACCOUNT | sf.PANIC | sf.MEM_SPREAD),
    CacheRequest("radix_tree_node", 552, 0, sf.PANIC, ctor=True),
    CacheRequest("shmem_inode_cache", 672, 0, sf.PANIC, ctor=True),
    CacheRequest("bio", 104, 0, HWCACHE | sf.PANIC),
    CacheRequest("biovec-1", 16, 0, HWCACHE | sf.PANIC),
    CacheRequest("blkdev_requests", 296, 0, sf.PANIC),
    CacheRequest("sgpool-8", 8 * 32, 0, HWCACHE),
    CacheRequest("sgpool-16", 16 * 32, 0, HWCACHE),
    CacheRequest("sgpool-32", 32 * 32, 0, HWCACHE),
    CacheRequest("sgpool-64", 64 * 32, 0, HWCACHE),
    CacheRequest("sgpool-128", 128 * 32, 0, HWCACHE),
    CacheRequest("scsi_cmd_cache", 288, 0, HWCACHE),
    CacheRequest("scsi_sense_cache", 96, 0, HWCACHE, usersize=96),  # a usercopy window since 4.16
)


# Caches of the path that no policy changes: where a machine's own list tells an object's size, it is taken. A list that
# tells slots alone (slabinfo) has no constructors, and of a cache with one the slot is no object's size.
FOUND_SIZES = ("names_cache", "dentry", "radix_tree_node", "shmem_inode_cache")

CACHES_OF = {
    "bio": ("bio",),
    "biovec": ("biovec-1",),
    "request": ("blkdev_requests",),
    "scsi_cmnd": ("scsi_cmd_cache",),
    "sense": ("scsi_sense_cache",),
    "sg table": ("sgpool-8", "sgpool-16", "sgpool-32", "sgpool-64", "sgpool-128"),
}


def object_size(request: CacheRequest, policy: Policy) -> int:
    """Bytes of an object of the path: the sense buffer inside or beside its command, the bio with its first vectors."""
    if request.name == "scsi_cmd_cache" and policy.sense == "inline":
        line = policy.command_align
        if line == 0:
            return COMMAND_2_6_24 - 96 + policy.sense_bytes
        return -(-request.size // line) * line + policy.sense_bytes
    if request.name == "scsi_sense_cache":
        return policy.sense_bytes
    if request.name == "bio" and policy.bio_inline_vecs:
        return request.size + 4 * 16  # BIO_INLINE_VECS of 2.6.29
    return request.size


def path_requests(scenario: Scenario) -> list[CacheRequest]:
    """What kmem_cache_create of the path is called with under a policy; with sheaves no cache of it merges."""
    policy = scenario.policy
    alone = {"bio": policy.nomerge_bio, "scsi_sense_cache": policy.nomerge_sense}
    found = {(cache.name, cache.ctor): cache.object_size for cache in scenario.machine.slab_caches}
    requests = []
    for request in PATH_CACHES:
        ctor = request.ctor or (request.name == "scsi_sense_cache" and policy.sense_ctor)
        alone_now = alone.get(request.name) or policy.allocator == "sheaves"
        flags = request.flags | (sf.NO_MERGE if alone_now else 0)
        size = object_size(request, policy)
        if request.name in FOUND_SIZES:
            size = found.get((request.name, ctor), size)
        requests.append(replace(request, size=size, flags=flags, ctor=ctor))
    sense = requests[-1]
    known = {sense.name}
    for name, size in zip(host_sense_caches(policy), policy.host_sense_bytes, strict=True):
        if name not in known:
            known.add(name)
            requests.append(replace(sense, name=name, size=size))
    return requests


def host_sense_caches(policy: Policy) -> list[str]:
    """The name of each further host's sense cache."""
    names = []
    for number, size in enumerate(policy.host_sense_bytes):
        if policy.host_pools == "host":
            names.append(f"scsi_sense_cache-host{1 + number}")
        else:
            names.append("scsi_sense_cache" if size == policy.sense_bytes else f"scsi_sense_cache-{size}")
    return names


def build_caches(scenario: Scenario) -> CacheSet:
    """All caches of the scenario's kernel under SLUB, merged as its policy allows."""
    options = SlubOptions(
        era=scenario.policy.slub_layout,
        cache_line=scenario.machine.cache_line,
        cpus_present=scenario.machine.cpus,
        slub_nomerge=scenario.policy.slub_nomerge,
        page_shift=(scenario.machine.page_kb * 1024).bit_length() - 1,
        pointer=scenario.machine.bits // 8,
    )
    caches = CacheSet(options, may_merge=own_policy(*scenario.policy.answers).merge)
    if scenario.policy.emergency_caches != "none":
        flags = 0 if scenario.policy.emergency_merge else sf.NO_MERGE
        for size in EMERGENCY_SIZES:
            caches.create(CacheRequest(f"emergency-{size}", size, 0, flags))
    path = {request.name for request in path_requests(scenario)}
    for cache in scenario.machine.slab_caches:
        if cache.name in path or cache.name.startswith("kmalloc-"):
            continue
        caches.create(CacheRequest(cache.name, cache.object_size, cache.align, cache.flag_bits, cache.ctor))
    for request in path_requests(scenario):
        caches.create(request)
    for fitted in background_caches(scenario):
        if not fitted.kmalloc and fitted.name not in caches:
            alone = scenario.policy.allocator == "sheaves"
            caches.create(CacheRequest(fitted.name, fitted.size, 0, sf.NO_MERGE if alone else 0))
    return caches
