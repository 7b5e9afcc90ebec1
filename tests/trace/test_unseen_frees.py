"""Frees that show no event: the caches are named, and held against their pages."""

import pytest

from fastalloc.trace.replay.recording import open_recording
from tests.trace.test_resolve_order import FULL, alloc, free, given, line, slab


def opened(tmp_path, lines):
    path = tmp_path / "t.txt"
    path.write_text("".join(line(*item) for item in lines))
    return open_recording(path, None, None, "6.1", "slub_max_order=0")


def again(us, count):
    """Objects of the slab at 16 handed out again and no free of them."""
    return [(0, us + i, alloc(16, i % 8)) for i in range(count)]


def gone(page, us):
    return (0, us, f"mm_page_free: page=0 pfn=0x{page:x} order=0")


@pytest.mark.parametrize(("count", "named"), [(8, False), (9, True)])
def test_as_many_as_a_slab_holds_are_few(tmp_path, count, named):
    recording = opened(tmp_path, [*FULL, *again(50, count)])
    assert [(each.cache, each.allocations, each.frees) for each in recording.unseen] == (
        [("512/512", 8 + count, count)] if named else []
    )
    assert ("NOT EXPLAINED, for their frees show no event: 512/512" in recording.known.words()) == named


def test_pages_tell_of_slabs_that_went(tmp_path):
    """All objects of the first slab were freed unseen before its pages went; a replay keeps them for ever."""
    recording = opened(tmp_path, [*FULL, *again(50, 9), *slab(1, 17, 70), gone(16, 90), *slab(0, 18, 100)])
    (found,) = recording.not_explained(recording.run([])[0])
    assert (found["slabs_by_pages"], found["slabs_predicted"]) == (2, 3)
    assert found["line"].endswith("+3 slabs over the trace where its pages tell of +2: off by 1")


def test_pages_of_a_slab_from_before_and_of_others(tmp_path):
    """The slab at 15 was there before; the pages at 19 are nobody's, those at 17 another's once they came back."""
    before = [(0, 5, alloc(15, i)) for i in range(8)]
    lines = [*before, *FULL, *again(50, 9), gone(15, 65), *slab(1, 17, 70), gone(17, 90)]
    lines += [(0, 95, given(19)), (0, 96, given(17)), gone(17, 97)]
    (found,) = opened(tmp_path, lines).unseen
    assert found.slabs == 0  # 16 and 17 came, 15 and 17 went


def test_where_frees_are_seen_none_is_named(tmp_path):
    lines = [*FULL, *((0, 50 + 2 * i + k, (free, alloc)[k](16, i % 8)) for i in range(20) for k in (0, 1))]
    recording = opened(tmp_path, lines)
    assert recording.unseen == []
    assert "NOT EXPLAINED" not in recording.known.words()
