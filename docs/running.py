"""The directives that run the blocks of a page and show what they print, see ``docs.blocks``."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from docs.blocks import read_block, run_block
from docutils import nodes
from docutils.parsers.rst import Directive


class _Run(Directive):
    """Runs a block of a page and shows what it printed."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    kind = "command"

    def run(self) -> list[nodes.Node]:
        """The nodes that stand for the block."""
        environment = self.state.document.settings.env
        folder = _folder(environment.docname)
        told = self.arguments[0] if self.arguments else ""
        asked = read_block(self.kind, told, "\n".join(self.content), self.lineno)
        argument, options = asked.argument, asked.options
        printed = run_block(asked, folder)
        if self.kind == "file":
            text = (folder / argument).read_text(encoding="utf-8", errors="replace") if self._shown(options) else ""
            return [_literal(_headed(text, options), "text")] if text else []
        found = [_literal("\n".join(f"$ {line}" for line in asked.text.splitlines()), "console")]
        if "quiet" not in options and printed:
            found.append(_literal(_headed(printed, options), "text"))
        if "strips" in options:
            found.append(_picture(folder / options["strips"]))
        return found

    def _shown(self, options: dict[str, str]) -> bool:
        return "quiet" not in options


class _File(_Run):
    kind = "file"


_folders: dict[str, Path] = {}


def _folder(page: str) -> Path:
    if page not in _folders:
        _folders[page] = Path(tempfile.mkdtemp(prefix="fastalloc-docs-"))
    return _folders[page]


def _clear(*_: Any) -> None:
    for folder in _folders.values():
        shutil.rmtree(folder, ignore_errors=True)


def _headed(text: str, options: dict[str, str]) -> str:
    lines = text.splitlines()
    most = int(options.get("head") or len(lines))
    return "\n".join([*lines[:most], *(["..."] if len(lines) > most else [])])


def _literal(text: str, language: str) -> nodes.Node:
    return nodes.literal_block(text, text, language=language)


def _picture(dataset: Path) -> nodes.Node:
    from fastalloc import open_dataset
    from fastalloc.notebook import strips_svg

    svg, words = strips_svg(open_dataset(dataset)), "each machine over time, red while it is livelocked"
    return nodes.raw("", f'<figure role="img" aria-label="{words}" class="picture">{svg}</figure>', format="html")


def setup(app: Any) -> dict[str, Any]:
    """The directives, for Sphinx."""
    app.add_directive("command", _Run)
    app.add_directive("file", _File)
    app.connect("build-finished", _clear)
    return {"parallel_read_safe": False}
