"""What there is to verify below a folder, and running it on threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fastalloc.errors import InputError, reading
from fastalloc.verify.geometry_tables import check_geometry_folder
from fastalloc.verify.golden import CaseResult, verify_build
from fastalloc.verify.golden_case import GoldenCase, read_case
from fastalloc.verify.kernel_folder import check_kernel_folder
from fastalloc.verify.tables import TableResult

Job = Callable[[], list[CaseResult]]
KERNEL_TABLES = ("geometry.csv.gz", "geometry.csv", "watermarks.csv")


def _check_tables(folder: Path, check: Callable[[Path], Iterator[TableResult]]) -> list[CaseResult]:
    """A result for each table of a folder, up to one that cannot be read."""
    results = []
    try:
        with reading(folder, "", "holds a table that cannot be checked"):
            for table in check(folder):
                results.append(CaseResult(f"{folder.name}/{table.name}", table.kernels, [table]))
        if not results:
            raise InputError(folder, "", "holds no table of a name that is known: geom_BUILD.parquet, such as slub64")
    except InputError as error:
        results.append(CaseResult(folder.name, "", fault=error))
    return results


def _verify_build(case: GoldenCase, build: str) -> list[CaseResult]:
    try:
        with reading(case.path, build, "cannot be compared"):
            return [verify_build(case, build)]
    except InputError as error:
        return [CaseResult(case.name, build, fault=error)]


def _unread(folder: Path, error: InputError) -> list[CaseResult]:
    return [CaseResult(folder.name, "", fault=error)]


def _verify_case(folder: Path) -> list[Job]:
    """A job a build; one that tells why, of a case that cannot be read: the others of the call are run all the same."""
    try:
        case = read_case(folder)
    except InputError as error:
        return [partial(_unread, folder, error)]
    return [partial(_verify_build, case, build) for build in case.builds]


def find_jobs(root: Path) -> list[Job]:
    """What there is to verify at or below ``root``, in path order; each job gives a result for each case or table.

    A folder with ``manifest.json`` is a golden case, one with ``geom_*.parquet`` holds geometry tables, one with
    ``geometry.csv.gz`` or ``watermarks.csv`` tables of recorded kernels. Cases are read and checked here; the job of
    one that cannot be read gives its fault.
    """
    if not root.exists():
        raise InputError(root, "", "no such file or folder")
    jobs: list[Job] = []
    seen = set()
    for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
        folder = path.parent
        if path.name == "manifest.json":
            jobs += _verify_case(folder)
        elif path.name.startswith("geom_") and path.suffix == ".parquet" and (folder, "geom") not in seen:
            seen.add((folder, "geom"))
            jobs.append(partial(_check_tables, folder, check_geometry_folder))
        elif path.name in KERNEL_TABLES and (folder, "kernel") not in seen:
            seen.add((folder, "kernel"))
            jobs.append(partial(_check_tables, folder, check_kernel_folder))
    return jobs


def run_jobs(jobs: list[Job], threads: int) -> list[CaseResult]:
    """Run all jobs, their results in order; the kernels run without the GIL."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            return [result for future in futures for result in future.result()]
        finally:
            for future in futures:
                future.cancel()
