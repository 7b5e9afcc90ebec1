"""A machine read from a real kernel: its /proc and slab sysfs, live or dumped as text."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from fastalloc.errors import InputError, reader
from fastalloc.foreign import content_of
from fastalloc.scenario.machine import SLAB_FLAG_BITS, Machine
from fastalloc.scenario.varied import input_error

MOST_BYTES = 1 << 28  # of a dump, unpacked
# The kernel's own order; lowmem_reserve is printed for all of them, populated or not.
ZONE_ORDER_64 = ("DMA", "DMA32", "Normal", "Movable", "Device")
ZONE_ORDER_32 = ("DMA", "Normal", "HighMem", "Movable", "Device")


class SlabDir(NamedTuple):
    """One folder of /sys/kernel/slab: a cache and the values of its files."""

    name: str
    values: dict[str, str]


class Source(NamedTuple):
    """The texts that a machine is read from."""

    path: Path
    text: Callable[[str], str | None]  # of a file such as /proc/zoneinfo, None where it is missing
    slab_dirs: list[SlabDir]
    slab_links: dict[str, str]  # alias -> folder


@reader()
def import_machine(path: str | Path, name: str | None = None) -> Machine:
    """Reads the machine that a kernel runs on.

    Args:
        path: a folder that holds ``proc/zoneinfo``, ``proc/meminfo``, ``proc/slabinfo`` and ``sys/kernel/slab`` (such
            as ``/``), or a text file, plain or gzip, in which lines ``== /proc/zoneinfo`` begin the sections.
        name: what to call it; by default after the path and its size.

    Returns:
        The machine, with populated zones only and caches in the order of their creation. ``source`` tells what the
        input did not say and was assumed.

    Raises:
        InputError: unreadable, truncated or without one of the sections; names file and section.
    """
    path = Path(path)
    source = _open_folder(path) if path.is_dir() else _open_dump(path)
    zones, free_pages, cpus, nodes = _zones(source)
    meminfo = _meminfo(source)
    caches = _slab_caches(source)
    line = _cache_line(source)
    said = [path.name or str(path), " ".join((source.text("/proc/version") or "").split()[:3])]
    said.append("hz 250 assumed")
    if line is None:
        said.append("cache_line 64 assumed")
    swap_pages = meminfo["SwapTotal"] // 4
    if nodes > 1:
        said.append(f"{nodes} nodes joined into one")
    if swap_pages == 0:
        said.append("no swap was on")
    data = {
        "name": name or _name(zones, path),
        "source": "; ".join(part for part in said if part),
        "cpus": cpus,
        "cache_line": line or 64,
        "swap_pages": swap_pages,
        "zones": zones,
        "free_pages": free_pages,
        "slab_caches": caches,
    }
    try:
        return Machine.model_validate(data)
    except ValidationError as error:
        raise input_error(error, path) from None


# ------------------------------------------------------------------------------------------------------- sources


def _open_folder(root: Path) -> Source:
    def text(name: str) -> str | None:
        file = root / name.lstrip("/")
        try:
            return file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(file, name, error.strerror or str(error)) from None

    folder = root / "sys/kernel/slab"
    dirs, links = [], {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_symlink():
            links[entry.name] = entry.readlink().name
        elif entry.is_dir():
            names = ("object_size", "slab_size", "align", "ctor", "objs_per_slab", "order", *SLAB_FLAG_BITS)
            values = {name: _first_line(entry / name) for name in names}
            dirs.append(SlabDir(entry.name, {name: value for name, value in values.items() if value is not None}))
    return Source(root, text, dirs, links)


def _first_line(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not every kernel has every file
        return None


def _open_dump(path: Path) -> Source:
    if not path.exists():
        raise InputError(path, "", "no such file or folder")
    raw = content_of(path, MOST_BYTES)
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in raw.decode("utf-8", errors="replace").splitlines():
        if line.startswith("== "):
            current = sections.setdefault(line.split()[-1], [])
        else:
            current.append(line)
    if not sections:
        raise InputError(path, "", "not a dump: no line begins a section, as '== /proc/zoneinfo' does")
    dirs, links = [], {}
    for number, line in enumerate(sections.get("/sys/kernel/slab", []), 1):
        words = line.split()
        if words[:1] == ["SLABDIR"] and len(words) > 2:
            dirs.append(SlabDir(words[1], dict(_pair(word, path, number) for word in words[2:])))
        elif words[:1] == ["SLABLINK"] and len(words) == 4:
            links[words[1]] = words[3]
        elif words:
            raise InputError(path, f"/sys/kernel/slab, line {number} of the section", f"cut off or unknown: {line!r}")

    def text(name: str) -> str | None:
        return "\n".join(sections[name]) if name in sections else None

    return Source(path, text, dirs, links)


def _pair(word: str, path: Path, number: int) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise InputError(path, f"/sys/kernel/slab, line {number} of the section", f"cut off: {word!r}")
    return name, value


def _section(source: Source, name: str) -> str:
    text = source.text(name)
    if text is None or not text.strip():
        raise InputError(source.path, name, "missing or empty")
    return text


# --------------------------------------------------------------------------------------------------------- zones


def _zones(source: Source) -> tuple[list[dict[str, Any]], dict[str, int], int, int]:
    """Populated zones lowest first, free pages by zone, CPUs, nodes. Nodes are joined: the model has one."""
    name = "/proc/zoneinfo"
    zones: dict[str, dict[str, Any]] = {}
    cpus, nodes = 1, 1
    for block in re.split(r"^(?=Node \d+, zone)", _section(source, name), flags=re.MULTILINE):
        head = re.match(r"Node (\d+), zone\s+(\S+)", block)
        if head is None:
            continue
        zone = head[2]
        nodes = max(nodes, 1 + int(head[1]))
        where = f"{name}: zone {zone}"
        cpus = max(cpus, 1 + max(map(int, re.findall(r"^\s+cpu:\s*(\d+)", block, re.MULTILINE)), default=0))
        # Later kernels hand to the allocator only the managed part of what is present.
        managed = re.search(r"^\s+managed\s+(\d+)", block, re.MULTILINE)
        present = int(managed[1]) if managed else _number(block, "present", source, where)
        if present == 0:
            continue
        protection = re.search(r"protection: \(([\d, ]+)\)", block)
        high = re.search(r"^\s+high:\s+(\d+)", block, re.MULTILINE)
        batch = re.search(r"^\s+batch:\s+(\d+)", block, re.MULTILINE)
        if protection is None or high is None or batch is None:
            lost = "protection" if protection is None else "pagesets"
            raise InputError(source.path, where, f"no {lost}: the dump is truncated")
        found = {
            "present": present,
            "min": _number(block, "min", source, where),
            "low": _number(block, "low", source, where),
            "high": _number(block, "high", source, where),
            "free": _number(block, "pages free", source, where),
        }
        if zone in zones:
            for key, value in found.items():
                zones[zone][key] += value
            continue
        zones[zone] = found | {
            "name": zone,
            "protection": [int(pages) for pages in protection[1].split(",")],
            "pcp_high": int(high[1]),
            "pcp_batch": max(1, int(batch[1])),
        }
    if not zones:
        raise InputError(source.path, name, "no populated zone")
    _select_protection(zones)
    free = {zone: fields.pop("free") for zone, fields in zones.items()}
    return list(zones.values()), free, cpus, nodes


def _number(block: str, field: str, source: Source, where: str) -> int:
    # anchored at the line's end: a truncated number is no number
    match = re.search(rf"^\s+{field}\s+(\d+)\s*$", block, re.MULTILINE)
    if match is None:
        raise InputError(source.path, where, f"no {field!r}: the dump is truncated or not a zoneinfo")
    return int(match[1])


def _select_protection(zones: dict[str, dict[str, Any]]) -> None:
    """Drops from each protection the entries of unpopulated zones below a populated one, so that entry j is zone j."""
    order = ZONE_ORDER_32 if "HighMem" in zones else ZONE_ORDER_64
    last = max((order.index(zone) for zone in zones if zone in order), default=0)
    for fields in zones.values():
        pages = fields["protection"]
        kept = [value for j, value in enumerate(pages) if j > last or j >= len(order) or order[j] in zones]
        fields["protection"] = kept[:4]


def _meminfo(source: Source) -> dict[str, int]:
    """Sizes in kB by name."""
    text = _section(source, "/proc/meminfo")
    found = {name: int(size) for name, size in re.findall(r"^(\S+):\s+(\d+) kB\s*$", text, re.MULTILINE)}
    for name in ("MemTotal", "SwapTotal"):
        if name not in found:
            raise InputError(source.path, f"/proc/meminfo: {name}", "missing: the dump is truncated")
    return found


def _name(zones: Iterable[dict[str, Any]], path: Path) -> str:
    mebibytes = round(sum(zone["present"] for zone in zones) / 256)
    stem = path.name.removesuffix(".gz").removesuffix(".txt")
    return f"{stem or 'machine'} ({mebibytes} MiB)"


# --------------------------------------------------------------------------------------------------------- slabs


def _slab_caches(source: Source) -> list[dict[str, Any]]:
    names = _slabinfo_names(source)
    if not source.slab_dirs:
        raise InputError(source.path, "/sys/kernel/slab", "missing or empty")
    aliases: dict[str, list[str]] = {}
    for alias, folder in source.slab_links.items():
        aliases.setdefault(folder, []).append(alias)
    rank = {name: age for age, name in enumerate(reversed(names))}  # slabinfo lists the newest first
    caches = []
    for folder, values in source.slab_dirs:
        known = [folder, *aliases.get(folder, [])]
        name = next((alias for alias in known if alias in rank), known[-1])
        caches.append(_slab_cache(name, folder, values, source))
    return sorted(caches, key=lambda cache: (rank.get(cache["name"], len(rank)), cache["name"]))


def _slabinfo_names(source: Source) -> list[str]:
    name = "/proc/slabinfo"
    lines = _section(source, name).splitlines()
    if not lines[0].startswith("slabinfo - version"):
        raise InputError(source.path, name, f"does not begin with its version but with {lines[0]!r}")
    names = []
    for number, line in enumerate(lines[1:], 2):
        if not line or line.startswith("#"):
            continue
        if not re.match(r"\S.*?\s\d+\s+\d+\s+\d+\s+\d+\s+\d+ : tunables .* : slabdata\s+\d+\s+\d+\s+\d+\s*$", line):
            raise InputError(source.path, f"{name}, line {number} of the section", f"cut off or unknown: {line!r}")
        names.append(line.split()[0])
    if not names:
        raise InputError(source.path, name, "lists no cache: the dump is truncated")
    return names


def _slab_cache(name: str, folder: str, values: dict[str, str], source: Source) -> dict[str, Any]:
    def number(field: str) -> int:
        try:
            return int(values[field].split()[0])
        except (KeyError, ValueError, IndexError):
            raise InputError(source.path, f"/sys/kernel/slab/{folder}/{field}", "missing or not a number") from None

    size, align = number("object_size"), number("align")
    flags = [flag for flag in SLAB_FLAG_BITS if values.get(flag, "0") not in ("0", "")]
    if "ctor" in values:
        ctor = values["ctor"] != ""
    else:
        # The dump does not tell. A folder under the cache's own name is never merged, and a word more than the object
        # needs is the free pointer of a constructed one.
        ctor = not folder.startswith((":", "kmalloc-")) and number("slab_size") >= -(-size // 8) * 8 + 8
    return {"name": name, "object_size": size, "align": align, "flags": flags, "ctor": ctor}


def _cache_line(source: Source) -> int | None:
    """The line size that the kernel told, or that the slot sizes of line-aligned caches betray, or None."""
    told = source.text("/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size")
    if told and told.strip().isdigit():
        return int(told)
    for line in (128, 64, 32):
        sizes = [
            int(values["slab_size"])
            for _, values in source.slab_dirs
            if values.get("hwcache_align") == "1" and int(values.get("object_size", 0)) > line
        ]
        if sizes and all(size % line == 0 for size in sizes):
            return line
    return None
