"""Whether the slabs and sheaves before a trace fit the caches and the machine of a lane: the kernel that puts them in
place looks at no bound."""

import numpy as np

from fastalloc.errors import InputError
from fastalloc.kernels.replay.start_slabs import LAID
from fastalloc.trace.lanes.lane import Config
from fastalloc.trace.lanes.start import Laid


def refuse_unfit(config: Config, laid: list[Laid], slabs: np.ndarray, cpus: int, nodes: int) -> None:
    """Raise InputError naming the first cache with a slab on a CPU or node that there is not, with more objects free
    than it has, or with a sheaf larger than those of the cache.

    ``slabs``: int64[n, LAID.width], those of all caches of ``config``, LAID.cache filled in; ``laid``: of each cache.
    """
    objects = np.array([cache.objects for cache in config.caches])[slabs[:, LAID.cache]]
    free = slabs[:, LAID.private] + slabs[:, LAID.free]
    for wrong, told in (
        ((slabs[:, LAID.cpu] >= cpus) | (slabs[:, LAID.cpu] < -1), f"lies on none of {cpus} CPUs"),
        ((slabs[:, LAID.node] >= nodes) | (slabs[:, LAID.node] < 0), f"lies on none of {nodes} nodes"),
        (
            (free > objects) | (slabs[:, LAID.free] < 0) | (slabs[:, LAID.private] < 0),
            "has more objects free than in all",
        ),
    ):
        if wrong.any():
            name = config.caches[int(slabs[np.argmax(wrong), LAID.cache])].name
            raise InputError("the state before the trace", f"cache {name}", f"a slab {told}")
    for cache, part in zip(config.caches, laid, strict=True):
        if len(part.index) and not (part.index.min() >= 0 and part.index.max() < cache.objects):
            raise InputError("the state before the trace", f"cache {cache.name}", "an object lies outside of its slab")
        for sheaf, _, index in part.sheaves:
            if not (0 <= sheaf.cpu < cpus and 0 <= sheaf.node < nodes and len(index) <= cache.sheaf_capacity):
                raise InputError(
                    "the state before the trace",
                    f"cache {cache.name}",
                    f"a sheaf of {len(index)} objects on CPU {sheaf.cpu}, node {sheaf.node} fits no sheaf of its",
                )


__all__ = ["refuse_unfit"]
