"""``fastalloc caches``: the layout of slab caches under a kernel, of a size or of a slabinfo as posted."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from fastalloc.cli.options import Json
from fastalloc.errors import InputError, printable_lines
from fastalloc.width import columns, fitted

DEFAULT_KERNEL = "6.12"


# More than nine arguments: each is an option of the command.
def caches(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A text with lines of /proc/slabinfo.")] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Version, 2.6.25 to 7.3  [default: the one that fits FILE best, else 6.12]")
    ] = None,
    size: Annotated[list[int] | None, typer.Option(help="Bytes of an object; may repeat.")] = None,
    boot: Annotated[str, typer.Option(help='The command line, such as "slub_debug=Z slub_max_order=0".')] = "",
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs  [default: as fits FILE best, else 8]")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="NUMA nodes.")] = 1,
    page_size: Annotated[int, typer.Option(help="Bytes of a page.")] = 4096,
    cache_line: Annotated[int, typer.Option(help="Bytes of a cache line.")] = 64,
    bits: Annotated[int, typer.Option(help="Of a pointer: 32 or 64.")] = 64,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Beside it: kernel=7.3, boot=slub_nomerge, page-size=64k, cpus=64, cache-line=128, or own=BYTES, a "
            "cache of its own for one size; may repeat."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Slots, orders, objects and waste of slab caches by a kernel's rules; FILE's rows beside them."""
    from fastalloc.explain.caches.answer import answer, as_text, read_table
    from fastalloc.explain.caches.setting import DEFAULT_CPUS, setting

    if path is None and not size and not any(text.startswith("own") for text in what_if or []):
        raise InputError("caches", "", "needs FILE, --size or --what-if own=BYTES")
    base = setting(kernel or DEFAULT_KERNEL, boot, cpus or DEFAULT_CPUS, nodes, page_size, cache_line, bits)
    rows = read_table(path) if path is not None else []
    result = answer(base, size or [], rows, what_if or [], (kernel is None, cpus is None))
    if json:
        print(json_module.dumps(result, indent=1))
    else:
        sys.stdout.write(fitted(printable_lines(as_text(result)), columns(sys.stdout)))
