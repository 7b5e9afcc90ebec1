"""What ``fastalloc caches`` answers, as plain data and as text."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastalloc.bounded import bytes_of, decoded
from fastalloc.cleaned import clean
from fastalloc.errors import InputError
from fastalloc.explain.caches.one_size import Choice, choices
from fastalloc.explain.caches.setting import Setting, changed
from fastalloc.explain.caches.table import check, fitting, is_slab, kmalloc_minimum
from fastalloc.explain.caches.totals import largest, posted, under
from fastalloc.linux.slabinfo import SlabRow, read_slabinfo
from fastalloc.linux.slub_layouts import layout_of

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
        data = bytes_of(path, MOST_BYTES)
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
    rows = read_slabinfo(clean(decoded(data), path), path)
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
    base = replace(base, kmalloc_min=kmalloc_minimum(rows, base.page_size))
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
        "cut": any(row.cut for row in rows),
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
    if result.get("table", {}).get("cut"):
        lines.append("note: without the columns behind <pagesperslab> the table is taken for one of SLUB")
    for each in result["sizes"]:
        lines += ["", f"an object of {each['size']:,} bytes", *_choice_lines(each["choices"])]
    if "table" in result:
        lines += ["", *_table_lines(result["table"])]
    return "\n".join(lines) + "\n"


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first to the left; a heading of several lines stands above its column."""
    depth = max(text.count("\n") for text in head) + 1
    above = [text.split("\n") for text in head]
    heads = [[([""] * depth + lines)[-depth:][n] for lines in above] for n in range(depth)]
    widths = [max(len(row[c]) for row in (*heads, *rows)) for c in range(len(head))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in (*heads, *rows)
    ]


def _choice_lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """A table for the kernel and for each what-if, and below each what its caches keep back and merge with."""
    what_ifs = dict.fromkeys(each["what_if"] for each in found)
    lines: list[str] = []
    for what_if in what_ifs:
        ours = [each for each in found if each["what_if"] == what_if]
        lines += ["", f"what if {what_if}"] if what_if else []
        lines += _columns(
            ("", "slot", "waste\nan object", "order", "objects", "waste\na slab"),
            [
                (_name(each), f"{each['slot']:,}", f"{each['waste']:,} ({each['waste_share']:.1%})", str(each["order"]),
                 f"{each['objects']:,}", f"{each['slab_waste']:,}")
                for each in ours
            ],
        )  # fmt: skip
        lines += _kept_back([each for each in ours if each["cpu_objects"]])
        merging = [f"  {_name(each)}: {words}" for each in ours for words in _merging(each)]
        lines += ["", *merging] if merging else []
    return lines


def _name(choice: dict[str, Any]) -> str:
    return str(choice["kind"]) if choice["kind"] != "kmalloc" else f"kmalloc ({choice['cache']})"


def _kept_back(found: Sequence[dict[str, Any]]) -> list[str]:
    """A table of free objects that wait on CPUs and nodes."""
    if not found:
        return []
    sheaves = any(each["sheaf_capacity"] for each in found)
    rows = [
        (_name(each), *(f"{each[f'{of}_objects']} ({each[f'{of}_bytes'] / 1024:,.0f} KiB)" for of in ("cpu", "node")))
        for each in found
    ]
    node = "in a node's\nbarn" if sheaves else "in empty slabs\nof a node"
    head: tuple[str, ...] = ("free objects kept back", "on a CPU", node)
    if sheaves:
        head += ("objects\na sheaf",)
        rows = [(*row, str(each["sheaf_capacity"])) for row, each in zip(rows, found, strict=True)]
    return ["", *_columns(head, rows)]


def _merging(choice: dict[str, Any]) -> Iterator[str]:
    if choice["merges_with"]:  # up to 4.15, while SLAB_NO_MERGE came with 6.5
        option = "slab_nomerge" if layout_of(choice["kernel"]).slab_nomerge else "slub_nomerge"
        yield f"merges with {choice['merges_with']}, so it shares its slabs; {option} or a constructor keeps it apart"
    elif choice["may_merge"]:
        yield f"may merge with {', '.join(choice['may_merge'][:5])}, where flags agree"
    elif choice["kind"] != "kmalloc":
        yield "merges with no kmalloc cache"


def _shared_cause(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The boot option that would explain most of the rows that do not agree, where it explains several."""
    options = [set(_OPTION.findall(" ".join(row["causes"]))) for row in rows if not row["agrees"]]
    counted = Counter(option for each in options for option in each)
    option, count = max(counted.items(), key=lambda one: (one[1], -len(one[0])), default=("", 0))
    return [f"  --boot {option} would explain {count} of the other {len(options)}"] if count > 1 else []


def _table_lines(table: dict[str, Any]) -> list[str]:
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
        f"{totals['held'] / MIB:,.1f} MB in slabs, {totals['idle'] / MIB:,.1f} MB of it idle objects; "
        f"{totals['high']} of {table['of']} caches have slabs of more than a page, order {totals['highest']} at most",
        *_columns(
            ("largest", "MB", "objects", "idle", "idle MB", "order"),
            [
                (row["cache"], f"{row['bytes'] / MIB:,.1f}", f"{row['active']:,}", f"{row['idle_objects']:,}",
                 f"{row['idle_bytes'] / MIB:,.1f}", str(row["order"]))
                for row in table["largest"]
            ],
        ),
    ]  # fmt: skip
    if table["what_ifs"]:
        base = totals["packed"]
        rows = [("as posted", f"{base / MIB:,.1f}", "", str(totals["high"]), str(totals["highest"]))]
        rows += [
            (each["what_if"], f"{each['packed'] / MIB:,.1f}", f"{each['packed'] / base - 1:+.1%}" if base else "",
             str(each["high"]), str(each["highest"]))
            for each in table["what_ifs"]
        ]  # fmt: skip
        head = ("objects in use, packed", "MB", "change", "caches above\norder 0", "highest\norder")
        lines += ["", *_columns(head, rows)]
        lines += [
            f"  {each['what_if']}: slots of {each['slots_known']} caches by rule, of the others as posted"
            for each in table["what_ifs"]
        ]
    return lines
