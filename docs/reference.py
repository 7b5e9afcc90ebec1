"""The reference pages that are generated whole: commands from the parser, keys from the schemas, policies and kernels
from their tables. ``write_all`` is called when the documentation is built; the pages are not kept."""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from fastalloc.cli.app import GROUPS, NAMES, SECTIONS
from fastalloc.linux import versions
from fastalloc.scenario import load_policy, policy_names
from fastalloc.scenario.load import load_schema

FOLDER = Path(__file__).parent / "reference"


def command_names() -> Iterator[str]:
    """Every command with its subcommands, as the parser has them."""
    for name in NAMES:
        yield name
        if name in GROUPS:
            from fastalloc.cli.app import build_command

            yield from (f"{name} {inner}" for inner in sorted(build_command(name).commands[name].commands))


def help_of(words: str) -> str:
    """What ``fastalloc WORDS -h`` prints."""
    import io
    from contextlib import redirect_stdout, suppress

    if words == "explain":
        from fastalloc.cli.explain import parser

        with mock.patch.dict("os.environ", {"COLUMNS": "96"}), mock.patch.object(sys, "argv", ["fastalloc"]):
            page = parser()
            page.formatter_class = argparse.HelpFormatter
            return page.format_help().strip()
    from fastalloc.cli.app import build_app

    out = io.StringIO()
    arguments = ["fastalloc", *words.split(), "-h"]
    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.dict("os.environ", {"COLUMNS": "96"}),
        redirect_stdout(out),
        suppress(SystemExit),
    ):
        build_app(*words.split()[:1])()
    return out.getvalue().strip()


def commands() -> str:
    """The first page of commands: how to read the others, and how a command ends."""
    from fastalloc.cli import border

    table = (border.__doc__ or "").split("\n\n", 1)[1].strip()
    lines = ["| code | meaning |", "|---|---|"]
    lines += [
        f"| {row.split(None, 1)[0]} | {row.split(None, 1)[1]} |" for row in table.splitlines() if row[:1].isdigit()
    ]
    parts = [
        "# Commands",
        "`fastalloc -h` lists them; `fastalloc COMMAND -h` is what stands here. `fastalloc --install-completion` "
        "completes names in your shell. Tables are as wide as the terminal, or as `COLUMNS`; `--wide` shows every "
        "column, and `--json` gives all of it to scripts.",
        "How a command ends:",
        "\n".join(lines),
        "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(f"commands-{slug(heading)}" for heading in SECTIONS) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def commands_of(heading: str) -> str:
    """The page of the commands of a section."""
    parts = [f"# Commands: {heading.lower()}"]
    for words in command_names():
        if words.split()[0] in SECTIONS[heading]:
            parts.append(f"## fastalloc {words}\n\n```text\n{help_of(words)}\n```")
    return "\n\n".join(parts) + "\n"


def slug(heading: str) -> str:
    """A heading as part of a file's name."""
    return heading.lower().replace(" ", "-")


def keys_of(kind: str) -> str:
    """The page of the keys of a kind of TOML file, with types, defaults and bounds."""
    schema: dict[str, Any] = json.loads(load_schema(kind))
    elsewhere = set(json.loads(load_schema("machine")).get("$defs", {})) | {"Machine", "MachineFrom"}
    parts = [
        f"# Keys of a {kind} file",
        "What `--set` takes is the dotted name, such as `workload.copiers`. A number in it indexes a list. "
        f"`fastalloc schema {kind}` prints this as JSON Schema, for editors.",
    ]
    for name, part in {"": schema, **schema.get("$defs", {})}.items():
        fields = part.get("properties", {})
        if not fields or (kind == "scenario" and name in elsewhere):
            continue
        parts += [f"## {name}"] if name else []
        rows = [
            f"| `{key}` | {_type(field)} | {_default(field)} | {_cell(field.get('description', ''))} |"
            for key, field in fields.items()
        ]
        parts.append("\n".join(["| key | value | default | |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return _cell(", ".join(f"`{value}`" for value in field["enum"]))
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return _cell(" or ".join(dict.fromkeys(_type(each) for each in field["anyOf"])))
    if "$ref" in field:
        return f"table {field['$ref'].rpartition('/')[2]}"
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    names = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true, false",
        "object": "table",
    }
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    bounds = "" if low is None else f" from {low}"
    bounds += "" if high is None else f" to {high}"
    return names.get(field.get("type", ""), field.get("type", "value")) + bounds


def _default(field: dict[str, Any]) -> str:
    if "default" not in field or isinstance(field["default"], dict | list):
        return ""
    value = field["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def policies() -> str:
    """The page of policies: a row each, with code, rule and source."""
    parts = [
        "# Policies by code",
        "What each sets, and where it comes from. `fastalloc policies NAME` tells each in a paragraph; the letters are "
        "those of [the thread](../explanation/the-thread.md); what was measured stands in [Policies](../policies.md).",
        "| code | policy | what it is | sets | source |\n|---|---|---|---|---|",
    ]
    rows = []
    for preset in map(load_policy, policy_names()):
        if preset.section == "kernel":
            continue
        sets = ", ".join(f"`{key.removeprefix('policy.')} = {str(value)[:40]}`" for key, value in preset.set.items())
        cells = (preset.section, f"`{preset.name}`", _cell(preset.title), sets, _cell(preset.source))
        rows.append((preset.section, f"| {' | '.join(cells)} |"))
    parts[-1] += "\n" + "\n".join(text for _, text in sorted(rows))
    return "\n\n".join(parts) + "\n"


def kernels() -> str:
    """The page of kernels and eras: what each version's rules are and what they were read in."""
    parts = [
        "# Kernels and eras",
        "Which rules run for a version. A rule holds from its first version to the next row's. Every output names the "
        "rules that ran; where another version stands in, it says so.",
        "## Bundles of policies",
        "| policy | kernel | made of |\n|---|---|---|",
    ]
    for preset in map(load_policy, policy_names()):
        if preset.section == "kernel":
            parts[-1] += f"\n| `{preset.name}` | {_cell(preset.title)} | {', '.join(preset.bundle)} |"
    for title, rows in (("How slabs move", versions.ERA), *_tables()):
        parts.append(f"## {title}")
        lines = [f"| {row.first} | {row.value} | {_cell(row.source)} | {_cell(row.note)} |" for row in rows]
        parts.append("\n".join(["| from | rule | read in | |", "|---|---|---|---|", *lines]))
    return "\n\n".join(parts) + "\n"


def _tables() -> Iterator[tuple[str, Any]]:
    """The other tables of ``linux.versions``."""
    for name, value in vars(versions).items():
        if (
            name.isupper()
            and name != "ERA"
            and isinstance(value, tuple)
            and value
            and isinstance(value[0], versions.Row)
        ):
            yield name.replace("_", " ").capitalize(), value


def more() -> str:
    """A page that leads to whatever no list of docs/index.md names."""
    docs = FOLDER.parent
    named = set((docs / "index.md").read_text(encoding="utf-8").split())
    pages = (path.relative_to(docs).with_suffix("") for path in sorted(docs.rglob("*.md")))
    left = [str(page) for page in pages if page.parts[0] not in ("_build", "reference") and str(page) not in named]
    lists = "\n".join(f"/{page}" for page in left if page != "index")
    return f"# More\n\n```{{toctree}}\n:maxdepth: 1\n\n{lists}\n```\n" if lists else "# More\n\nNothing else.\n"


PAGES = {"more": more, "commands": commands, "policies-by-code": policies, "kernels": kernels}
PAGES |= {f"commands-{slug(heading)}": partial(commands_of, heading) for heading in SECTIONS}
PAGES |= {f"keys-{kind}": partial(keys_of, kind) for kind in ("scenario", "machine", "sweep")}


def write_all() -> None:
    """Writes every page."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, made in PAGES.items():
        (FOLDER / f"{name}.md").write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    write_all()
