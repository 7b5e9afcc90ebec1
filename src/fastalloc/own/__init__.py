"""What a policy of one's own is written with: ``from fastalloc.own import KERNEL, WHO, parameter``; see docs/own.md."""

from importlib import import_module
from typing import Any

from fastalloc.own.declared import parameter

KERNEL = -1  # an answer: as the kernel would
NOTHING = -1  # in an allocator: no pages, or no object
# Answers to free_to, one a kernel.
TO_SLAB = 1  # past the sheaves to its slab (6.18 and later)
TO_NODE = 2  # the slab to its node's list, not to the CPU's (3.2 to 6.17)
TO_HEAD = 3  # the slab to the head of its node's list, not to the tail (2.6.25)
_ELSEWHERE = {
    "WHO": "fastalloc.kernels.lane.metrics",
    "DEPTH": "fastalloc.kernels.alloc.state",
    **dict.fromkeys(("take_pages", "give_pages", "slow", "lock", "current"), "fastalloc.own.memory"),
    **dict.fromkeys(("order_of", "add_slab", "take_slot", "put_slot"), "fastalloc.own.slabs"),
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name]), name)
    raise AttributeError(name)


__all__ = ["KERNEL", "NOTHING", "TO_HEAD", "TO_NODE", "TO_SLAB", "parameter"]
