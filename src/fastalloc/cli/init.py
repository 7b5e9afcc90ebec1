"""``fastalloc init``: a folder to start from, with a scenario and a policy of one's own."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from fastalloc.errors import InputError
from fastalloc.width import say

PRESET = "swap-livelock-34m"  # half of its machines livelock within seconds
LANES = 16


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make, or an empty one.")],
) -> None:
    """Write a commented scenario and a policy of your own into DIR, which run as they are."""
    from fastalloc.scenario.commented import preset_text
    from fastalloc.scenario.load import load_schema
    from fastalloc.store.location import write_file

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "", "is there already, and is no empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, "", f"cannot be written: {error.strerror or error}") from None
    lines = preset_text(PRESET).splitlines(keepends=True)
    scenario = "".join(
        f"lanes = {LANES} # simulated machines a variant\n"
        if line.startswith("lanes = ")
        else line.replace(PRESET, "mine")
        if line.startswith("name = ")
        else line
        for line in lines
    )
    written = {
        "scenario.toml": scenario,
        "scenario.schema.json": load_schema("scenario"),
        "sense_first.py": (files("fastalloc.scenario") / "templates" / "sense_first.txt").read_text(encoding="utf-8"),
    }
    for name, text in written.items():
        write_file(folder / name, text.encode())
    say(f"{folder}/scenario.toml   the machine, what runs on it, and variants of the kernel")
    say(f"{folder}/sense_first.py  a policy: who may take a slot, and what follows a refusal")
    print("\nnow:")
    print(f"  fastalloc run {folder}/scenario.toml --out {folder}/out")
    print(f"  fastalloc compare {folder}/scenario.toml --policies fix,{folder}/sense_first.py --out {folder}/board")
