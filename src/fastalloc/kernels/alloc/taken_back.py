"""An object that a CPU takes and gives back at once, and a cache whose refusals change nothing: what an attempt at a
SCSI command that is refused its sense buffer does to the caches of the two.

As in :mod:`fastalloc.kernels.alloc.kmem`, ``heap`` is the state of an allocator and its type decides. Only of SLUB by
the rules of 2.6.25 is it known here; of the others nothing is said, and their attempts are run one by one.
"""

from types import SimpleNamespace

from fastalloc.compiler.jit import INLINED
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.heap_ops import its_own
from fastalloc.kernels.alloc.slub.state import PATH_FREELIST
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, SLUB_CTL


def _slub_private_object(heap, c, cpu):
    k = heap.kcpu[c, cpu]
    i = k[KMEM_CACHE_CPU.freelist]
    return (k[KMEM_CACHE_CPU.page] << st.HANDLE_SHIFT) | i if i >= 0 else st.NO_OBJECT


def _slub_has_no_cpu_slab(heap, c, cpu):
    return heap.kcpu[c, cpu, KMEM_CACHE_CPU.page] < 0


def _slub_count_taken_back(heap, c, cpu, times):
    k = heap.kcpu[c, cpu]
    k[KMEM_CACHE_CPU.alloc_fastpath] += times
    k[KMEM_CACHE_CPU.free_fastpath] += times
    heap.ctl[SLUB_CTL.path] = PATH_FREELIST


def _no_private_object(heap, c, cpu):
    return st.NO_OBJECT


def _not_known(heap, c, cpu):
    return False


def _not_counted(heap, c, cpu, times):
    pass


_SLUB = SimpleNamespace(
    private_object=_slub_private_object,
    has_no_cpu_slab=_slub_has_no_cpu_slab,
    count_taken_back=_slub_count_taken_back,
)
_OTHERS = SimpleNamespace(private_object=_no_private_object, has_no_cpu_slab=_not_known, count_taken_back=_not_counted)


_FACES = {"Slub": _SLUB, **dict.fromkeys(("SlubEras", "Slab", "Slob", "Own"), _OTHERS)}


@its_own(_FACES, "private_object", **INLINED)
def private_object(heap, c, cpu):
    """The object that the CPU's private list would give and, given back, would have again, whatever else is done to
    other caches meanwhile; NO_OBJECT: none, or not known."""


@its_own(_FACES, "has_no_cpu_slab", **INLINED)
def has_no_cpu_slab(heap, c, cpu):
    """Whether ``cpu`` has no slab of cache ``c``, so that a request there that is refused had none to retire: it
    changed nothing [__slab_alloc]. False where that is not known."""


@its_own(_FACES, "count_taken_back", **INLINED)
def count_taken_back(heap, c, cpu, times):
    """Count :func:`private_object` as taken and given back so many times more."""
