"""Under what caches are laid out: a kernel, its boot line, its machine; and how a what-if changes that."""

from dataclasses import dataclass, replace
from typing import Any

from fastalloc.errors import InputError, meant
from fastalloc.linux.slub_boot import BootLine, read_boot_line
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.linux.versions import Kernel, kernel_of

DEFAULT_CPUS = 8
PAGE_SIZES = {4096: 12, 8192: 13, 16384: 14, 65536: 16}
KNOWN = "kernel=VERSION, boot=OPTIONS, cpus=N, page-size=BYTES, cache-line=BYTES, bits=32|64"


@dataclass(frozen=True)
class Setting:
    """A kernel and its machine. ``cache_line`` and ``page_size`` in bytes; ``bits`` of a pointer: 32 or 64;
    ``kmalloc_min`` bytes of the smallest kmalloc cache.
    """

    kernel: Kernel
    boot: str = ""
    cpus: int = DEFAULT_CPUS
    nodes: int = 1
    page_size: int = 4096
    cache_line: int = 64
    bits: int = 64
    kmalloc_min: int = 8

    @property
    def options(self) -> SlubOptions:
        """As the rules want it."""
        return self._line().options

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Words of the boot line that this kernel does not take, or takes otherwise than they look."""
        return self._line().unknown

    def _line(self) -> BootLine:
        return read_boot_line(
            self.boot, self.kernel.version, cpus_present=self.cpus, cache_line=self.cache_line,
            page_shift=PAGE_SIZES[self.page_size], pointer=self.bits // 8, kmalloc_minalign=self.kmalloc_min,
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """As plain data."""
        names = ("boot", "cpus", "nodes", "page_size", "cache_line", "bits", "kmalloc_min")
        return {name: getattr(self, name) for name in names} | {"passed_over": list(self.passed_over)}

    def line(self) -> str:
        """As a line."""
        boot = f", booted with {self.boot}" if self.boot else ""
        wide = "" if self.bits == 64 else ", 32-bit"
        least = "" if self.kmalloc_min == 8 else f", kmalloc caches from {self.kmalloc_min} bytes"
        return f"{self.cpus} CPUs, pages of {self.page_size} bytes, cache line {self.cache_line}{wide}{least}{boot}"


def setting(
    kernel: str, boot: str = "", cpus: int = DEFAULT_CPUS, nodes: int = 1, page_size: int = 4096, cache_line: int = 64,
    bits: int = 64,
) -> Setting:  # fmt: skip
    """A setting from what a user gives.

    Raises:
        InputError: a kernel outside the table, a page size or cache line that no machine has.
    """
    try:
        rules = kernel_of(kernel)
    except ValueError as error:
        raise InputError("--kernel", kernel, str(error)) from error
    if page_size not in PAGE_SIZES:
        raise InputError("--page-size", str(page_size), f"must be one of {', '.join(map(str, PAGE_SIZES))}")
    if cache_line not in (16, 32, 64, 128, 256):
        raise InputError("--cache-line", str(cache_line), "must be 16, 32, 64, 128 or 256 bytes")
    if bits not in (32, 64):
        raise InputError("--bits", str(bits), "must be 32 or 64")
    if not 1 <= cpus <= 8192 or not 1 <= nodes <= 1024:
        raise InputError("--cpus" if not 1 <= cpus <= 8192 else "--nodes", f"{cpus}, {nodes}", "is out of range")
    return Setting(rules, boot, cpus, nodes, page_size, cache_line, bits)


def changed(base: Setting, text: str) -> Setting:
    """``base`` with one thing otherwise: KEY=VALUE, see KNOWN; ``boot`` is added to the boot line.

    Raises:
        InputError: an unknown key, or a value that does not fit.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    now: dict[str, Any] = {
        "boot": base.boot, "cpus": base.cpus, "nodes": base.nodes, "page_size": base.page_size,
        "cache_line": base.cache_line, "bits": base.bits,
    }  # fmt: skip
    if not equals:
        raise InputError("--what-if", text, f"must be KEY=VALUE, one of {KNOWN}")
    if key == "kernel":
        return replace(base, kernel=setting(value, **now).kernel)
    if key == "boot":
        return replace(base, boot=f"{base.boot} {value}".strip())
    name = key.replace("-", "_")
    if name not in now:
        names = [each.partition("=")[0] for each in KNOWN.split(", ")]
        raise InputError("--what-if", text, f"is not known{meant(key, names)}; there are {KNOWN}")
    return replace(setting(base.kernel.asked, **now | {name: number(value, text)}), kmalloc_min=base.kmalloc_min)


def number(value: str, what: str) -> int:
    """A count such as ``64`` or ``64k``; InputError for what is none."""
    scale = {"k": 1024, "K": 1024}.get(value[-1:], 1)
    digits = value[:-1] if scale > 1 else value
    if not digits.isdecimal() or len(digits) > 9:
        raise InputError("--what-if", what, "needs a number such as 64 or 64k")
    return int(digits) * scale
