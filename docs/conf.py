"""Sphinx configuration; the command reference is generated from the commands themselves."""

import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

project = "fastalloc"
author = "The fastalloc authors"
version = release = version_of("fastalloc")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "A wind tunnel for kernel memory allocation under pressure",
    "page_width": "1180px",
    "font_family": "system-ui, sans-serif",
    "font_size": "15px",
}
autodoc_typehints = "description"
suppress_warnings = ["myst.xref_missing"]

COMMANDS = (
    "",
    "run",
    "rerun",
    "report",
    "sweep",
    "frontier",
    "sensitivity",
    "schema",
    "dataset check",
    "dataset compact",
    "dataset merge",
    "scenarios",
    "machine",
    "machine import",
    "explain",
    "verify",
)


def _help(words: str) -> str:
    command = [sys.executable, "-m", "fastalloc.cli.main", *words.split(), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text.replace("python -m fastalloc.cli.main", "fastalloc").strip()


def _write_commands() -> None:
    parts = ["# Commands\n", "Bad input ends with one line on stderr and exit code 2, Ctrl-C with 130.\n"]
    parts += [f"## `fastalloc {words}`\n\n```text\n{_help(words)}\n```\n".replace(" `\n", "`\n") for words in COMMANDS]
    Path(__file__).with_name("commands.md").write_text("\n".join(parts), encoding="utf-8")


_write_commands()
