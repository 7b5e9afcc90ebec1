"""The table of kernels: which rules a version runs, and that nothing runs in silence under rules not its own."""

import pytest

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.release import BASES, base_name
from fastalloc.linux.slub_layouts import CHANGES, layout_of
from fastalloc.linux.versions import kernel_near, kernel_of

MAINLINE = [base_name(base) for base in BASES if base >= (2, 6, 25)]


@pytest.mark.parametrize(
    ("text", "version", "era"),
    [
        ("2.6.25-rc8", "2.6.25", "2.6.25"),
        ("2.6.35.3", "2.6.35", "2.6.25"),
        ("v3.2", "3.2", "cpu-partial"),
        ("4.20.0-rc5-next-20181210", "5.0", "cpu-partial"),
        ("v6.12.117", "6.12", "cpu-partial"),
        ("6.12.117+deb12-amd64", "6.12", "cpu-partial"),
        ("6.18", "6.18", "sheaves"),
        ("7.3.4+deb13-amd64", "7.3", "7.3"),
    ],
)
def test_a_version_finds_its_row(text, version, era):
    kernel = kernel_of(text)
    assert (kernel.version, kernel.era) == (version, era)
    assert kernel.record()["version"] == version
    assert version in kernel.line()


@pytest.mark.parametrize("text", ["2.6.24", "2.4.37", "7.4", "8.0", "4.21", "6.20", "mainline", ""])
def test_a_version_outside_the_table_is_refused(text):
    with pytest.raises(ValueError, match=r"kernel"):
        kernel_of(text)


@pytest.mark.parametrize("version", ["7.0", "7.1"])
def test_what_was_not_read_is_said(version):
    kernel = kernel_of(version)
    assert "not read" in kernel.line()
    assert "7.2" in kernel.line()
    assert "not read" in kernel.record()["notes"]["slabs"]


def test_a_version_between_two_trees_says_which_change_may_hold_for_it():
    assert "calculate_order" in kernel_of("6.7").line()
    assert kernel_of("6.6").notes.keys() == set()


@pytest.mark.parametrize("version", MAINLINE)
def test_every_version_has_a_row_with_its_source(version):
    kernel = kernel_of(version)
    assert all(kernel.sources.values())
    assert kernel.layout == layout_of(version)


def test_rows_stand_in_the_order_of_versions():
    firsts = [change.first for change in CHANGES]
    assert firsts == sorted(firsts, key=lambda text: tuple(map(int, text.split("."))))


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("2.6.25", "2.6.26", "max_order"),
        ("2.6.26", "2.6.27", "min_partial"),
        ("2.6.29", "2.6.30", "kmalloc_pages"),
        ("2.6.33", "2.6.34", "never_merge"),
        ("3.18", "3.19", "newest_first"),
        ("4.4", "4.5", "merge_same"),
        ("5.3", "5.4", "kmalloc_align"),
        ("5.10", "5.11", "cpus_counted"),
        ("5.15", "5.16", "cpu_partial"),
        ("6.7", "6.8", "lower_min_objects"),
        ("6.10", "6.11", "kmalloc_align"),
        ("6.19", "7.0", "sheaves"),
        ("6.19", "7.0", "kmalloc_orig_size"),
    ],
)
def test_a_rule_changes_with_its_version(before, after, field):
    assert getattr(layout_of(before), field) != getattr(layout_of(after), field)


def test_consistency_checks_keep_a_cache_from_merging_since_7_0_alone():
    assert not layout_of("6.19").never_merge & sf.DEBUG_FREE
    assert layout_of("7.0").never_merge & sf.DEBUG_FREE


@pytest.mark.parametrize(
    ("text", "version"), [("2.6.21", "2.6.25"), ("2.4.9", "2.6.25"), ("7.9", "7.3"), ("4.21", "4.20")]
)
def test_the_nearest_row_stands_in_and_says_so(text, version):
    kernel = kernel_near(text)
    assert kernel.version == version
    assert f"the rules of {version} stand in" in kernel.line()
    assert kernel_near("6.12") == kernel_of("6.12")
