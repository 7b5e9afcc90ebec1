"""Pages whose commands are run: what stands in ``{command}``, ``{file}`` and ``python`` blocks.

A page's blocks run in order in a folder of its own. The documentation shows what they print; the tests run the same
blocks and look at how they end. Options stand behind the name, where a forge that shows the page as plain Markdown does
not show them: ``{command} exit=2 head=5``, ``{file} mine.py from=tests/mine.py quiet``.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COLUMNS = 96
_FENCE = re.compile(r"^(`{3,})(\{?[\w-]+\}?) ?(.*)$")
OPTIONS = ("exit", "stderr", "quiet", "head", "strips", "from")


class Block(NamedTuple):
    """``kind``: command, file or python; ``argument``: the file's name; ``options``; ``text``; ``line`` in the page."""

    kind: str
    argument: str
    options: dict[str, str]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are run, in order."""
    found, fence, lines = [], "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if not fence and match:
            fence, kind, argument, begun, lines = match[1], match[2].strip("{}"), match[3], number, []
        elif fence and line.strip() == fence:
            if kind in ("command", "file", "python"):
                found.append(read_block(kind, argument, "\n".join(lines).strip("\n"), begun))
            fence = ""
        elif fence:
            lines.append(line)
    return found


def read_block(kind: str, told: str, text: str, line: int) -> Block:
    """A block; ``told``, what stands behind its name, is argument and options. Raises ValueError for others."""
    words = [word.partition("=") for word in told.split()]
    options = {name: value for name, _, value in words if name in OPTIONS}
    others = [name for name, _, _ in words if name not in OPTIONS]
    if len(others) > (kind == "file"):
        raise ValueError(f"line {line}: {told}: options are {', '.join(OPTIONS)}")
    return Block(kind, others[0] if others else "", options, text, line)


def run_block(block: Block, folder: Path) -> str:
    """What a block prints; a command that ends otherwise than the page says raises."""
    if block.kind == "file":
        target = folder / block.argument
        if "from" in block.options:
            shutil.copy(ROOT / block.options["from"], target)
        else:
            target.write_text(block.text + "\n", encoding="utf-8")
        return ""
    words = ["sh", "-ec", block.text] if block.kind == "command" else [sys.executable, "-c", block.text]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=_environment(folder), check=False)
    if done.returncode != int(block.options.get("exit", 0)):
        raise RuntimeError(f"line {block.line}: exit code {done.returncode}\n{block.text}\n{done.stdout}{done.stderr}")
    told = done.stdout if "stderr" not in block.options else done.stdout + done.stderr
    return "\n".join(line.rstrip() for line in told.splitlines()).strip("\n")


def _environment(folder: Path) -> dict[str, str]:
    """``fastalloc`` is this checkout's; where it was left, whatever is installed."""
    shims = folder / ".bin"
    shims.mkdir(exist_ok=True)
    shim = shims / "fastalloc"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastalloc.cli.main "$@"\n')
    shim.chmod(0o755)
    path = f"{shims}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
