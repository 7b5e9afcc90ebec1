"""What ``fastalloc caches`` answers, as plain data and as text."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError
from fastalloc.explain.caches.one_size import Choice, choices
from fastalloc.explain.caches.setting import Setting, changed
from fastalloc.explain.caches.table import check, fitting, is_slab
from fastalloc.explain.caches.totals import largest, posted, under
from fastalloc.linux.slabinfo import SlabRow, read_slabinfo

MOST_BYTES = 1 << 26  # of a file, unpacked
LARGEST = 10  # caches shown
SLAB_RULES = "SLAB (2.6.25; 4.6 to 6.7)"
_OPTION = re.compile(r"slub_debug=\w+")
MIB = 1 << 20


def read_table(path: Path) -> list[SlabRow]:
    """The caches of a text that holds lines of /proc/slabinfo.

    Raises:
        InputError: it cannot be read, or holds none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(path, "", error.strerror or str(error)) from None
    if data[:2] == b"\x1f\x8b":
        import gzip
        import io
        import zlib

        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(MOST_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(path, "", f"damaged gzip file: {error}") from None
    if len(data) > MOST_BYTES:
        raise InputError(path, "", f"is more than {MOST_BYTES:,} bytes, unpacked where it is gzip")
    rows = read_slabinfo(data.decode("utf-8", errors="replace").splitlines(), path)
    rows = [row for row in rows if row.object_size and row.objects_a_slab and row.pages_a_slab]
    if not rows:
        raise InputError(path, "", "holds no line of /proc/slabinfo; run `sudo cat /proc/slabinfo > slabinfo.txt`")
    return rows


def answer(
    base: Setting, sizes: Sequence[int], rows: list[SlabRow], what_ifs: Sequence[str], fit: tuple[bool, bool]
) -> dict[str, Any]:
    """The answer as plain data. ``fit``: whether kernel and CPUs are to be found from the table.

    Raises:
        InputError: a what-if that cannot be read.
    """
    said = ""
    own = [text.partition("=")[2].strip() for text in what_ifs if text.partition("=")[0].strip() == "own"]
    for text in own:
        if not text.isdecimal():
            raise InputError("--what-if", f"own={text}", "needs the bytes of an object, such as own=2312")
    sizes = list(dict.fromkeys([*sizes, *map(int, own)]))
    others = [text for text in what_ifs if text.partition("=")[0].strip() != "own"]
    if rows and any(fit) and not is_slab(rows):
        base, said = fitting(rows, base, *fit)
    settings = [base, *(changed(base, text) for text in others)]
    result: dict[str, Any] = {
        "kernel": base.kernel.record(),
        "kernel_line": base.kernel.line("layout", "version"),
        "machine": base.record() | {"line": base.line()},
        "fitted": said,
        "sizes": [_sizes(size, settings, ["", *others], rows) for size in sizes],
    }
    if rows:
        result["table"] = _table(rows, base, settings[1:], others)
    return result


def _sizes(size: int, settings: Sequence[Setting], names: Sequence[str], rows: list[SlabRow]) -> dict[str, Any]:
    found = [
        {"what_if": name, "kernel": setting.kernel.version, **choice.record()}
        for name, setting in zip(names, settings, strict=True)
        for choice in _choices(size, setting, rows)
    ]
    return {"size": size, "choices": found}


def _choices(size: int, setting: Setting, rows: list[SlabRow]) -> list[Choice]:
    if not 1 <= size <= 1 << 22:
        raise InputError("--size", str(size), "must be between 1 and 4194304 bytes")
    return choices(size, setting, rows)


def _table(rows: list[SlabRow], base: Setting, others: Sequence[Setting], names: Sequence[str]) -> dict[str, Any]:
    found = check(rows, base)
    page = base.page_size
    result: dict[str, Any] = {
        "allocator": "slab" if is_slab(rows) else "slub",
        "rows": [row.record() for row in found],
        "agree": sum(row.agrees for row in found),
        "of": len(found),
        "totals": posted(rows, page).record(),
        "largest": largest(rows, page, LARGEST),
        "what_ifs": [],
    }
    for name, setting in zip(names, others, strict=True):
        totals, laid = under(rows, setting)
        known = sum(row.slot > 0 for row in laid)
        result["what_ifs"].append(
            {"what_if": name, "kernel": setting.kernel.record(), **totals.record(), "slots_known": known}
        )
    return result


# ------------------------------------------------------------------------------------------------------------ text


def as_text(result: dict[str, Any]) -> str:
    """The answer as lines."""
    kernel = result["kernel_line"]
    if not result["sizes"] and result.get("table", {}).get("allocator") == "slab":
        kernel = f"not told by the table: the rules of {SLAB_RULES}"
    lines = [f"kernel: {kernel}", f"machine: {result['machine']['line']}"]
    lines += [f"note: {word}" for word in result["machine"]["passed_over"]]
    if result["fitted"]:
        lines.append(f"note: {result['fitted']}")
    for each in result["sizes"]:
        lines += ["", f"an object of {each['size']:,} bytes", *_choice_lines(each["choices"])]
    if "table" in result:
        lines += ["", *_table_lines(result["table"], result["machine"]["page_size"])]
    return "\n".join(lines) + "\n"


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first to the left, the last as long as it is."""
    widths = [max(len(row[c]) for row in (head, *rows)) for c in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)),
        ]
        lines.append("  " + "  ".join([*cells, row[-1]]).rstrip())
    return lines


def _choice_lines(found: Sequence[dict[str, Any]]) -> list[str]:
    rows, merges = [], []
    for each in found:
        name = each["kind"] if each["kind"] != "kmalloc" else f"kmalloc ({each['cache']})"
        name += f" [{each['what_if']}]" if each["what_if"] else ""
        hoards = "-"
        if each["cpu_objects"]:
            cpu, node = (f"{each[f'{of}_objects']} ({each[f'{of}_bytes'] / 1024:,.0f} KiB)" for of in ("cpu", "node"))
            where = "a node's barn" if each["sheaf_capacity"] else "empty slabs of a node"
            hoards = f"{cpu} a CPU, {node} in {where}"
            if each["sheaf_capacity"]:
                hoards += f"; sheaves of {each['sheaf_capacity']}"
        rows.append(
            (name, f"{each['slot']:,}", f"{each['waste']:,} ({each['waste_share']:.1%})", str(each["order"]),
             f"{each['objects']:,}", f"{each['slab_waste']:,}", hoards)
        )  # fmt: skip
        if each["merges_with"]:
            merges.append(
                f"  {name}: merges with {each['merges_with']}, so it shares its slabs; SLAB_NO_MERGE keeps it apart"
            )
        elif each["may_merge"]:
            merges.append(f"  {name}: may merge with {', '.join(each['may_merge'][:5])}, where flags agree")
        elif each["kind"] != "kmalloc":
            merges.append(f"  {name}: merges with no kmalloc cache")
    head = ("", "slot", "waste an object", "order", "objects", "waste a slab", "free objects kept back")
    return [*_columns(head, rows), *merges]


def _shared_cause(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The boot option that would explain most of the rows that do not agree, where it explains several."""
    options = [set(_OPTION.findall(" ".join(row["causes"]))) for row in rows if not row["agrees"]]
    counted = Counter(option for each in options for option in each)
    option, count = max(counted.items(), key=lambda one: (one[1], -len(one[0])), default=("", 0))
    return [f"  --boot {option} would explain {count} of the other {len(options)}"] if count > 1 else []


def _table_lines(table: dict[str, Any], page: int) -> list[str]:
    totals = table["totals"]
    lines = [
        f"{table['agree']} of {table['of']} rows agree with the rules"
        + (
            f" of {SLAB_RULES}, whose flags and alignment the table does not tell"
            if table["allocator"] == "slab"
            else ""
        ),
        *_shared_cause(table["rows"]),
    ]
    for row in table["rows"]:
        if not row["agrees"]:
            rules = row["rules"]
            expected = f"{rules['objects_a_slab']} objects in {rules['pages_a_slab']} pages"
            expected = f"slot {rules['slot']:,}, {expected}" if rules["slot"] else expected
            posted_so = f"slot {row['slot']:,}, {row['objects_a_slab']} objects in {row['pages_a_slab']} pages"
            lines.append(f"  {row['cache']}: posted {posted_so}; rules: {expected}")
            lines += [f"    would be explained by {cause}" for cause in row["causes"]]
    lines += [
        "",
        f"{totals['held'] / MIB:,.1f} MiB in slabs, {totals['idle'] / MIB:,.1f} MiB of it idle objects; "
        f"{totals['high']} of {table['of']} caches have slabs of more than a page, order {totals['highest']} at most",
        *_columns(
            ("largest", "MiB", "objects", "idle", "idle MiB", "order", ""),
            [
                (row["cache"], f"{row['bytes'] / MIB:,.1f}", f"{row['active']:,}", f"{row['idle_objects']:,}",
                 f"{row['idle_bytes'] / MIB:,.1f}", str(row["order"]), "")
                for row in table["largest"]
            ],
        ),
    ]  # fmt: skip
    if table["what_ifs"]:
        base = totals["packed"]
        rows = [("as posted", f"{base / MIB:,.1f}", "", str(totals["high"]), str(totals["highest"]), "")]
        rows += [
            (each["what_if"], f"{each['packed'] / MIB:,.1f}", f"{each['packed'] / base - 1:+.1%}" if base else "",
             str(each["high"]), str(each["highest"]), f"slots of {each['slots_known']} by rule, others as posted")
            for each in table["what_ifs"]
        ]  # fmt: skip
        head = ("objects in use, packed", "MiB", "change", "caches above order 0", "highest order", "")
        lines += ["", *_columns(head, rows)]
    return lines
