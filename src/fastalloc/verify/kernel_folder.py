"""Checks every table of running kernels in a folder."""

from collections.abc import Iterator
from pathlib import Path

from fastalloc.errors import InputError
from fastalloc.verify.alias_table import KernelTable, check_aliases, check_aliases_alone
from fastalloc.verify.kernel_geometry import check_primaries, check_slots, read_tables
from fastalloc.verify.tables import TableResult
from fastalloc.verify.watermark_table import check_watermarks, kernels_of


def check_kernel_folder(folder: Path) -> Iterator[TableResult]:
    """Every table of recorded kernels in ``folder``: ``geometry.csv.gz`` (or ``.csv``) and ``watermarks.csv``.

    Raises ValueError, naming the file, when a table is malformed.
    """
    for name in ("geometry.csv.gz", "geometry.csv"):
        path = folder / name
        if path.exists():
            boots = folder / "geometry_boots.csv"
            if not boots.exists():
                raise InputError(boots, "", f"is missing: it names the machines of {name}")
            table, machines = read_tables(path)
            try:
                tables = KernelTable(table, machines)
                for result in (
                    check_primaries(table, machines, name),
                    check_slots(table, machines, name),
                    check_aliases(tables, name),
                    check_aliases_alone(tables, name),
                ):
                    result.kernels = kernels_of(table)
                    yield result
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    if (folder / "watermarks.csv").exists():
        yield check_watermarks(folder / "watermarks.csv")
