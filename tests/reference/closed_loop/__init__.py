"""The closed loop in plain Python: reclaim, swap, request queue, SCSI, completion, and the tasks that drive them.

Written from the kernel's rules to be read, with sets, deques and objects. Functions bear the kernel's names; what may
sleep or take CPU time is a generator that says so with ``yield``. It covers a machine of 2.6.25-rc8, with or without
164fc5dc: SLUB, CFQ or noop, copiers and writers. Random numbers and CPU costs are inputs.

Shared with ``fastalloc.kernels`` by agreement, not because the kernel has it: where CPU time passes (a page looked at,
a bio submitted, a stage of a completion), the quantum of 20 us, which of two things at one time comes first.

Left out by both, so that nothing here shows whether it matters: the vectors of 14 pages in front of the LRU lists and
of rotation; slot 0 of the swap area, the header's, which is a slot like any other; the time that a lock is held;
prev_priority; CFQ's slices and fifo; the second try of get_request_wait before a task without an io_context sleeps. An
allocation of an object that has reclaimed begins again at its slab, where the kernel goes on with the slab's page.
"""
