"""Names of allocation masks as kernels 4.4 to 6.12 print them, with the bits of 6.1 [include/trace/events/mmflags.h].

The bits moved between versions, names did not: a mask of any kernel is brought to these bits. Here they only
tell the type of a kmalloc cache and who may sleep.
"""

import numpy as np

GFP_BITS = {
    "__GFP_DMA": 0x1,
    "__GFP_HIGHMEM": 0x2,
    "__GFP_DMA32": 0x4,
    "__GFP_MOVABLE": 0x8,
    "__GFP_RECLAIMABLE": 0x10,
    "__GFP_HIGH": 0x20,
    "__GFP_IO": 0x40,
    "__GFP_FS": 0x80,
    "__GFP_ZERO": 0x100,
    "__GFP_ATOMIC": 0x200,
    "__GFP_DIRECT_RECLAIM": 0x400,
    "__GFP_KSWAPD_RECLAIM": 0x800,
    "__GFP_RECLAIM": 0xC00,
    "__GFP_WAIT": 0xC00,  # up to 4.3
    "__GFP_WRITE": 0x1000,
    "__GFP_NOWARN": 0x2000,
    "__GFP_RETRY_MAYFAIL": 0x4000,
    "__GFP_NOFAIL": 0x8000,
    "__GFP_NORETRY": 0x10000,
    "__GFP_MEMALLOC": 0x20000,
    "__GFP_COMP": 0x40000,
    "__GFP_NOMEMALLOC": 0x80000,
    "__GFP_HARDWALL": 0x100000,
    "__GFP_THISNODE": 0x200000,
    "__GFP_ACCOUNT": 0x400000,
    "GFP_ATOMIC": 0xA20,
    "GFP_NOWAIT": 0x800,
    "GFP_NOIO": 0xC00,
    "GFP_NOFS": 0xC40,
    "GFP_KERNEL": 0xCC0,
    "GFP_KERNEL_ACCOUNT": 0x400CC0,
    "GFP_TEMPORARY": 0xCD0,
    "GFP_USER": 0x100CC0,
    "GFP_DMA": 0x1,
    "GFP_DMA32": 0x4,
    "GFP_HIGHUSER": 0x100CC2,
    "GFP_HIGHUSER_MOVABLE": 0x100CCA,
    "GFP_TRANSHUGE_LIGHT": 0x1C20CA,
    "GFP_TRANSHUGE": 0x1C24CA,
}


def bits_of_6_1(mask: np.ndarray, own: dict[str, int]) -> np.ndarray:
    """uint32[n]: masks of a kernel whose bits by name are ``own``, in those of GFP_BITS. A bit that has no name in both
    is dropped; where no name differs the masks stay as they are."""
    known = {name: bit for name, bit in own.items() if name in GFP_BITS}
    mask = mask.astype(np.uint32)
    if all(GFP_BITS[name] == bit for name, bit in known.items()):
        return mask
    moved = np.zeros_like(mask)
    for name, bit in known.items():
        moved |= np.where(mask & np.uint32(bit), np.uint32(GFP_BITS[name]), np.uint32(0))
    return moved
