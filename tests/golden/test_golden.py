"""Every golden case at hand is exact in every row of every table."""

import filecmp
from functools import lru_cache
from pathlib import Path

import pytest

from fastalloc.verify.golden import verify_build
from fastalloc.verify.golden_case import GoldenCase, read_case

REPOSITORY = Path(__file__).parents[2]
SMALL = REPOSITORY / "tests" / "data" / "golden"
SHARED = REPOSITORY.parent / "shared" / "data" / "golden"
# of later kernels
LATER_SMALL = [SMALL.with_name(f"golden-{kernel}") for kernel in ("6.12", "7.3")]
LATER_SHARED = [SHARED.with_name(f"golden-{kernel}") for kernel in ("6.12", "7.3")]


def folders_of(root: Path) -> list[Path]:
    """The folders of golden cases at or below ``root``, by name."""
    return sorted(path.parent for path in root.rglob("manifest.json"))


def builds(*roots: Path) -> list[tuple[Path, str]]:
    """(case folder, build) of all cases below ``roots``."""
    cases = [case for root in roots if root.is_dir() for case in folders_of(root)]
    return [(case, ops.parent.name) for case in cases for ops in sorted(case.glob("*/ops.parquet"))]


def travels(case: Path) -> bool:
    """Whether one of the small cases is this one, file by file."""
    for small in (root / case.name for root in (SMALL, *LATER_SMALL)):
        files = [path.relative_to(small) for path in small.rglob("*") if path.is_file()]
        if files:
            tables = {path.relative_to(case) for path in case.rglob("*.parquet")}
            return tables <= set(files) and not any(filecmp.cmpfiles(case, small, files, shallow=False)[1:])
    return False


def shared_builds() -> list[tuple[Path, str]]:
    """Those of the shared cases that are not among the small ones."""
    found = builds(SHARED, *LATER_SHARED)
    twice = {case for case in {case for case, _ in found} if travels(case)}
    return [(case, build) for case, build in found if case not in twice]


@lru_cache(maxsize=2)
def known_case(folder: Path) -> GoldenCase:
    """A case, read once for its builds."""
    return read_case(folder)


def check(folder: Path, build: str) -> None:
    """All tables of one build are exact."""
    result = verify_build(known_case(folder), build)
    assert result.rows > 0
    differences = [(table.name, table.rows - table.exact, table.first) for table in result.tables if not table.ok]
    assert not differences


@pytest.mark.parametrize(("folder", "build"), builds(SMALL, *LATER_SMALL), ids=lambda part: getattr(part, "name", part))
def test_small_case(folder: Path, build: str) -> None:
    check(folder, build)


def test_small_cases_cover_every_allocator() -> None:
    kinds = {build[:4] for _, build in builds(SMALL)}
    assert kinds == {"slub", "slab", "slob"}
    assert any("numa2" in build for _, build in builds(SMALL))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data folder beside the repository")
@pytest.mark.parametrize(("folder", "build"), shared_builds(), ids=lambda part: getattr(part, "name", part))
def test_shared_case(folder: Path, build: str) -> None:
    check(folder, build)
