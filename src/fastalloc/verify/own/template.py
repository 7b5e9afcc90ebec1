"""What ``fastalloc policy new`` writes: a policy that leaves all to the kernel, or a small allocator; both run as they
are."""

from fastalloc.own.questions import QUESTIONS, RECORDS

_HEAD = '''"""What my patch does, in a sentence.

Run it beside the kernel's own:  fastalloc compare swap-livelock --policies {name}.py
Look for faults, and what it costs:  fastalloc policy check {name}.py ; fastalloc policy time {name}.py
Under recorded traces:  fastalloc replay TRACE --what-if policy={name}.py

A function below answers a question that kernels ask. It takes what it needs of the arguments named above it, and
returns a whole number; KERNEL leaves the answer to the kernel. A question without a function is never asked.
Compiled are whole numbers of 64 bits, if, for over a range, while, and calls of other functions of this file.
"""

from fastalloc.own import KERNEL, TO_HEAD, TO_NODE, TO_SLAB, parameter

# Words of state, 0 at boot, read and written as state.cache.taken; a new slab's begin at 0.
STATE = {{"cpu": ["answers"]}}  # of a "lane", "cpu", "cache" or "slab"

# Set with --set policy.kept=7, varied as the axis policy.kept of a sweep.
kept = parameter("kept", 5, 0, 100, "partial slabs below which an empty one stays")

# What is told:
{records}


def keep(cache, state):  # {keep}
    """An emptied slab."""
    state.cpu.answers += 1
    return kept if cache.objects < 0 else KERNEL
'''


_ALLOCATOR = '''"""What my allocator does, in a sentence.

Run it beside the kernel's own:  fastalloc compare swap-livelock --policies {name}.py,slab
Look for faults, and what it costs:  fastalloc policy check {name}.py ; fastalloc policy time {name}.py
Under recorded traces:  fastalloc replay TRACE --what-if allocator={name}.py

An address is page << 12 and an offset. Pages have numbers; take_pages(zone, gfp, order) gives the first of 2**order of
them, NOTHING where the zones refuse the mask, and give_pages(zone, page, order) gives them back. slow(zone) and
lock(zone) count slow paths and locks; current(zone) is the number of the task that runs. Compiled are whole numbers of
64 bits, if, for over a range, while, and calls.
"""

from fastalloc.own import NOTHING, add_slab, give_pages, order_of, put_slot, slow, take_pages, take_slot

# Rows and columns of the arrays of heap, all 0 at boot. Rows: a number, CACHES, CPUS, TASKS, PAGES, SLOTS (512 a page),
# or a product such as "CPUS * CACHES". The last three are those of add_slab, take_slot and put_slot: lists of slabs.
ARRAYS = {{"size": ("CACHES", 1), "held": (1, 1), "list": ("CACHES", 1), "page": ("PAGES", 5), "slot": ("SLOTS", 1)}}


def create(heap, c, size):
    """Cache c has objects of ``size`` bytes."""
    heap.size[c, 0] = size


def alloc(heap, zone, c, cpu, gfp):
    """The address of an object, a multiple of 8, or NOTHING."""
    size = heap.size[c, 0]
    if heap.list[c, 0] == 0:  # no slab with room
        slow(zone)
        page = take_pages(zone, gfp, order_of(size))
        if page == NOTHING:
            return NOTHING
        heap.held[0, 0] += 1 << order_of(size)
        add_slab(heap.list, heap.page, heap.slot, c, page, (4096 << order_of(size)) // size)
    return take_slot(heap.list, heap.page, heap.slot, c, size)


def free(heap, zone, c, cpu, address):
    """An object of cache c is free again."""
    order = order_of(heap.size[c, 0])
    page = address >> (12 + order) << order
    if put_slot(heap.list, heap.page, heap.slot, page, address, heap.size[c, 0]) == 0:  # and the slab empty
        heap.held[0, 0] -= 1 << order
        give_pages(zone, page, order)


def shrink(heap, zone, c):
    """Give back what is free of cache c: with every object freed and every cache shrunk no page may be held."""


def pages_held(heap):
    """How many pages take_pages gave that were not given back."""
    return heap.held[0, 0]


# If it likes: what a CPU keeps of a cache goes back; kmem_cache_alloc_bulk, all or 0; kmem_cache_free_bulk.
# def flush(heap, zone, c, cpu):
# def alloc_bulk(heap, zone, c, cpu, gfp, count, into):
# def free_bulk(heap, zone, c, cpu, count, addresses):
'''


def allocator_template(name: str) -> str:
    """The text for an allocator in a file ``name``.py."""
    return _ALLOCATOR.format(name=name)


def template(name: str) -> str:
    """The text for a file ``name``.py."""
    fields = [f"#   {record}: {', '.join(names)}" for record, names in RECORDS.items()]
    records = ["#   who (a number of WHO), gfp, context (PF_MEMALLOC, interrupt), cpu, now (ms)", *fields]
    parts = [_HEAD.format(name=name, records="\n".join(records), keep=_line("keep"))]
    for question, each in QUESTIONS.items():
        if question == "keep":
            continue
        answer = "True" if question == "merge" else "KERNEL"
        parts.append(
            f"\n\n# {question}: {each.asks}\n#   asked by {', '.join(each.allocators)}\n"
            f"# def {question}({', '.join(each.arguments)}):\n#     return {answer}\n"
        )
    return "".join(parts)


def _line(question: str) -> str:
    return ", ".join(QUESTIONS[question].arguments)
