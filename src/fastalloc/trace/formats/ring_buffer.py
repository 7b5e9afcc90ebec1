"""Records in the pages of the kernel's ring buffer [kernel/trace/ring_buffer.c, events/header_page, header_event]."""

import numpy as np

from fastalloc.compiler.jit import kernel
from fastalloc.errors import InputError
from fastalloc.trace.formats.tracedat import CpuData, TraceDat

_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_MISSED = 1 << 31  # in the commit field of a page: events were lost before it
_COMMIT = (1 << 20) - 1
_TOP_BITS = np.uint64(31 << 59)  # an absolute time stamp lacks them

# What stopped the walk.
_WHOLE, _LOST, _TORN = 0, 1, 2


@kernel
def walk(words, page_words, data, time, record, size):
    """Walk the pages of one CPU: time, place and size of each record.

    ``words``: uint32[n], the pages; ``data``: byte of a page at which its records begin. ``time`` uint64[rows],
    ``record`` and ``size`` int64[rows] in bytes from the first page; with none of them room is only counted.
    Returns the number of records, what stopped the walk and at which byte.
    """
    count = np.int64(0)
    fill = time.shape[0] > 0
    for first in range(0, words.shape[0], page_words):
        now = np.uint64(words[first]) | (np.uint64(words[first + 1]) << np.uint64(32))
        commit = np.int64(words[first + 2])
        if commit & _MISSED:
            return count, _LOST, 4 * first
        at = first + data // 4
        end = at + (commit & _COMMIT) // 4
        if end > first + page_words:
            return count, _TORN, 4 * first
        while at < end:
            head = np.int64(words[at])
            kind = head & 31
            delta = np.uint64(head >> 5)
            begin = at + 1
            length = kind * 4
            if kind == 0 or kind >= _PADDING:
                if kind == _PADDING and delta == 0:
                    break
                if begin >= end:
                    return count, _TORN, 4 * at
                extra = np.int64(words[begin])
                if kind == _TIME_EXTEND:
                    now += delta + (np.uint64(extra) << np.uint64(27))
                    at += 2
                    continue
                if kind == _TIME_STAMP:
                    now = (now & _TOP_BITS) | delta | (np.uint64(extra) << np.uint64(27))
                    at += 2
                    continue
                begin += 1
                length = extra - 4
                if kind == _PADDING:
                    now += delta
                    begin -= 1
                    length = extra
            if length <= 0 or begin + (length + 3) // 4 > end:
                return count, _TORN, 4 * at
            if kind != _PADDING:
                now += delta
                if fill:
                    time[count] = now
                    record[count] = 4 * begin
                    size[count] = length
                count += 1
            at = begin + (length + 3) // 4
    return count, _WHOLE, 0


def records(
    path: object, dat: TraceDat, data: CpuData, pages: np.ndarray, begin: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time in nanoseconds, place and size in bytes of each record in ``pages`` (uint8[n]) of one CPU, places from the
    first of them, which is ``begin`` bytes into what the CPU has.

    Raises InputError for pages that say that events were lost, or that are damaged.
    """
    words = pages.view("<u4")
    none = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    layout = (words, dat.page_size // 4, dat.data)
    count, stopped, at = walk(*layout, *none)
    if stopped == _LOST:
        raise InputError(path, f"byte {data.offset}", f"CPU {data.cpu} lost events; record with a larger buffer (-b)")
    if stopped == _TORN:
        where = f"byte {data.offset}"
        raise InputError(
            path, where, f"CPU {data.cpu}: a record does not fit its page, {begin + at} bytes into its data"
        )
    found = np.zeros(count, np.uint64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    if count:
        walk(*layout, *found)
    return found
