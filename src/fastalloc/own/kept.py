"""Machine code of files of one's own, kept on disk beside that of kernels.

Numba keeps a function by the file that it lies in. What a kernel calls by its address is written by fastalloc, so it is
put into a file of its own there, under a digest of all that its machine code depends on.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from fastalloc.compiler import cache_dir
from fastalloc.errors import InputError
from fastalloc.written import write_whole

MOST = 256  # functions that are kept; the oldest go first


def digest_of(*parts: object) -> str:
    """What the machine code of a file depends on: ``parts``, sources of this room, and what that of kernels does."""
    digest = hashlib.sha256()
    for part in (cache_dir.cache_digest(), _sources(), *parts):
        text = str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{len(text)}\0".encode() + text)
    return digest.hexdigest()


@cache
def _sources() -> str:
    found = sorted((cache_dir.PACKAGE / "own").glob("*.py"))
    return "\0".join(f"{path.name}\0{path.read_text(encoding='utf-8')}" for path in found)


@contextmanager
def kept(digest: str, name: str, lines: list[str], namespace: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Puts the function that ``lines`` define into ``namespace``, to be compiled inside, by one process at a time, with
    the options that it yields; ``digest`` of the file, ``name`` of what it calls there. Where nothing can be written it
    is not kept."""
    text = "\n".join(lines)
    namespace["__name__"] = __name__  # Numba imports it where it loads what it kept
    key = hashlib.sha256(f"{digest}\0{name}\0{text}".encode()).hexdigest()[:32]
    folder = cache_dir.cache_folder() / cache_dir.OF_ONES_OWN
    path = folder / f"{key}.py"
    try:
        cache_dir.own_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            _drop_oldest(folder.parent)
            write_whole(path, [f"{text}\n".encode()])
    except (OSError, InputError):
        exec(text, namespace)
        yield {}
        return
    exec(compile(text, str(path), "exec"), namespace)
    with cache_dir.only_one(f"{cache_dir.OF_ONES_OWN}/{key}"), cache_dir.used():
        yield {"cache": True}


def _drop_oldest(folder: Path) -> None:
    """Leaves room for one more function."""
    found = sorted(folder.glob(f"{cache_dir.OF_ONES_OWN}*/*.py"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[MOST - 1 :]:
        for each in folder.glob(f"{cache_dir.OF_ONES_OWN}*/{path.stem}*"):
            with suppress(OSError):
                each.unlink()
