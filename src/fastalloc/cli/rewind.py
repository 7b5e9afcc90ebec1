"""``fastalloc rewind``: a stored lane opened at a time, its state in words, step by step."""

import json as json_text
import sys
from typing import Annotated

import typer

from fastalloc.cli.options import Json, Trust
from fastalloc.errors import InputError
from fastalloc.width import say

HELP = (
    "n or Enter: a step on; b: a step back; a number and s, ms or us: that step from now on; t TIME: go there; q: end"
)


def rewind(
    dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")],
    lane: Annotated[int, typer.Argument(help="The lane's id in runs/.")],
    to: Annotated[
        str, typer.Option(help="When: 12.5s, 300ms, 2s-before-livelock, 1s-after-livelock, end.")
    ] = "0s-before-livelock",
    event: Annotated[
        str, typer.Option(help="What --to counts from: livelock, stall>SECONDS, refused or reserve<PAGES.")
    ] = "livelock",
    step: Annotated[str, typer.Option(help="Length of a step: 10ms, 1s.")] = "10ms",
    steps: Annotated[int, typer.Option(min=0, help="So many steps are shown, and no more is asked.")] = 0,
    save: Annotated[str | None, typer.Option(help="Save a snapshot of the lane at that time as this file.")] = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Open one lane at a time: who holds which slots, who waits for what; forward and back."""
    from fastalloc.batch.snapshot import save as save_snapshot
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.rare.events import parse_event
    from fastalloc.rare.in_words import state_lines
    from fastalloc.rare.rewind import Rewound, parse_time
    from fastalloc.runner import stored_lane
    from fastalloc.scenario.rules import rules_line

    wanted = parse_event(event)
    own, row = stored_lane(dataset, lane)
    announce_compiling()
    opened = Rewound(own, row["lane"], row["seed"])
    step_ns = 0 if step == "end" or "-" in step else parse_time(step, None, opened.end_ns, "--step")
    if step_ns == 0:
        raise InputError("--step", step, "must be a length above 0, such as 10ms or 1s")
    at = opened.find(wanted) if "-" in to else None
    opened.go_to(parse_time(to, at, opened.end_ns))
    states = []

    def show() -> None:
        lines = state_lines(opened.arrays)
        states.append({"t_s": opened.now_ns / 1e9, "lines": lines})
        for line in [] if json else lines:
            say(line)

    if not json:
        say(f"rules: {rules_line(own)}")
    show()
    if save is not None:
        save_snapshot(opened.snapshot(), own, save)
        say(f"snapshot in {save}", err=json)
    for _ in range(steps):
        opened.step(step_ns)
        if not json:
            say()
        show()
    if json:
        print(json_text.dumps({"rules": rules_line(own), "states": states}, indent=1))
    if json or steps or save is not None or not sys.stdin.isatty():
        return
    say(HELP)
    while True:
        try:
            asked = input("> ").strip()
        except EOFError:
            return
        if asked in ("q", "quit"):
            return
        step_ns = _asked(opened, asked, step_ns, at)
        show()


def _asked(opened: object, asked: str, step_ns: int, event_ns: int | None) -> int:
    """Do what a line asks; the length of a step from now on."""
    from fastalloc.rare.rewind import Rewound, parse_time

    assert isinstance(opened, Rewound)
    try:
        if asked in ("", "n"):
            opened.step(step_ns)
        elif asked == "b":
            opened.step(-step_ns)
        elif asked.startswith("t "):
            opened.go_to(parse_time(asked[2:].strip(), event_ns, opened.end_ns))
        else:
            step_ns = parse_time(asked, None, opened.end_ns)
            opened.step(step_ns)
    except InputError as error:
        say(f"{error}\n{HELP}", err=True)
    return step_ns
