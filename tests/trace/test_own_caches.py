"""What-ifs of one more cache: a caller's own, or a kmalloc size."""

import pytest

from fastalloc.errors import InputError
from fastalloc.trace.replay.recording import beside, open_recording
from tests.geometry.shared import DATA

RUN = DATA / "traces" / "d_stack_k612.events.parquet"


@pytest.fixture(scope="module")
def recording():
    return open_recording(RUN, beside(RUN, "slabstate"), None, "6.12", "slab_nomerge")


def caches(recording, text):
    before, after = recording.run([text], 1)
    assert after.result.counts == before.result.counts
    return [
        {row["cache"]: row for row in prediction.result.caches.iter_rows(named=True)} for prediction in (before, after)
    ]


def test_a_caller_s_own_cache_takes_its_objects_and_no_other_s(recording):
    before, after = caches(recording, "own=shmem_symlink")
    own = after.pop("own:shmem_symlink")
    assert (own["size"], own["new"], own["end"]) == (16, 1, 1)  # 13 bytes, aligned to 8
    taken = own["alloc_fast"] + own["alloc_slow"]
    assert taken == before["kmalloc-16"]["alloc_fast"] + before["kmalloc-16"]["alloc_slow"] - (
        after["kmalloc-16"]["alloc_fast"] + after["kmalloc-16"]["alloc_slow"]
    )
    assert taken > 0
    before.pop("kmalloc-16"), after.pop("kmalloc-16")
    assert after == before


def test_a_size_of_its_own_is_the_callers_choice(recording):
    assert caches(recording, "own=shmem_symlink:64")[1]["own:shmem_symlink"]["size"] == 64


def test_a_kmalloc_size_takes_what_fits_it_better(recording):
    before, after = caches(recording, "size=1536")
    made = after.pop("kmalloc-1536")
    assert (made["size"], made["order"]) == (1536, 3)
    large = before["kmalloc-2k"], after["kmalloc-2k"]
    moved = [row["alloc_fast"] + row["alloc_slow"] for row in large]
    assert moved[0] - moved[1] == made["alloc_fast"] + made["alloc_slow"] > 0
    assert {name for name in before if before[name] != after[name]} == {"kmalloc-2k"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("own=", "must be own=FUNCTION"),
        ("own=no_such_function", "no such function allocates"),
        ("own=shmem_symlink:8", "asks for up to 13 bytes"),
        ("size=1024", "there is a kmalloc cache of this size already"),
        ("size=1001", "a multiple of 8"),
        ("size=16384", "bytes from 8 to 8,192"),
        ("own=shmem_symlink,own=shmem_symlink", "there is a cache own:shmem_symlink already"),
    ],
)
def test_what_makes_no_cache_is_refused(recording, text, why):
    with pytest.raises(InputError, match=why):
        recording.configs([text])
