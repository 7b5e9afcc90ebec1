"""Who holds the memory, as a picture: every byte is in it, and frames lie below what they are part of."""

import polars as pl
import pytest

from fastalloc.report.flame import flame
from fastalloc.report.replay_page import write_replay_page
from fastalloc.trace.replay.held import BEFORE, FREE, TAILS, held_at_peak
from fastalloc.trace.replay.recording import beside, open_recording
from fastalloc.trace.replay.results import write_results
from tests.geometry.shared import DATA

RUN = DATA / "traces" / "d_stack_k612.events.parquet"


@pytest.fixture(scope="module")
def replayed():
    recording = open_recording(RUN, beside(RUN, "slabstate"), None, "6.12", "slab_nomerge")
    return recording, recording.run([], 1)


def test_every_byte_of_the_slabs_is_held_by_somebody(replayed):
    recording, (base,) = replayed
    held, when = held_at_peak(recording.trace, base.result)
    pages = base.result.series[:, :, 0].astype("int64") << base.result.caches["order"].to_numpy()
    at = int(pages.sum(axis=1).argmax())
    assert when == base.result.sample_ns[at]
    assert int(held["bytes"].sum()) == int(pages[at].sum()) * 4096
    by_cache = dict(held.group_by("cache").agg(pl.col("bytes").sum()).iter_rows())
    for name, own in zip(base.result.caches["cache"], pages[at].tolist(), strict=True):
        assert by_cache.get(name, 0) == own * 4096
    objects = held.filter(~pl.col("holder").is_in([FREE, TAILS]))
    size = dict(base.result.caches.select("cache", "size").iter_rows())
    assert all(row["bytes"] == row["objects"] * size[row["cache"]] for row in objects.iter_rows(named=True))
    assert held.filter(pl.col("holder") == BEFORE)["objects"].sum() > 0
    assert held.filter(holder="shmem_alloc_inode+0x1a/0x40").height <= 1


def test_frames_lie_below_what_they_are_part_of(replayed):
    recording, (base,) = replayed
    drawn = flame(held_at_peak(recording.trace, base.result)[0])
    assert drawn is not None
    whole, caches, holders = drawn.rows
    assert (whole[0].left, whole[0].width) == (0.0, 100.0)
    assert sum(frame.width for frame in caches) == pytest.approx(100)
    for row in (caches, holders):
        ends = [frame.left + frame.width for frame in row]
        assert all(after.left >= end - 1e-6 for end, after in zip(ends, row[1:], strict=False))
    for cache in caches:
        inside = [f for f in holders if cache.left - 1e-6 <= f.left < cache.left + cache.width - 1e-6]
        if inside:
            assert sum(frame.width for frame in inside) == pytest.approx(cache.width)


def test_nothing_held_is_no_picture():
    assert flame(pl.DataFrame(schema={"cache": pl.String, "holder": pl.String, "objects": int, "bytes": int})) is None


def test_the_page_has_it(replayed, tmp_path):
    recording, predictions = replayed
    write_results(tmp_path, recording, predictions, "fastalloc replay")
    text = write_replay_page(tmp_path).read_text()
    assert "Who holds the memory" in text
    assert 'class="frame"' in text
    assert 'aria-live="polite"' in text
    (tmp_path / "holders.parquet").unlink()
    assert "Who holds the memory" not in write_replay_page(tmp_path).read_text()
