"""``fastalloc explain``: why an allocation failed, by the rules of the kernel that reported it."""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

from fastalloc.errors import InputError, meant, reading
from fastalloc.width import columns, fitted, say


class _Parser(argparse.ArgumentParser):
    """Tells of a fault as all commands do."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            near = meant(unknown.split()[0], self._option_string_actions)
            raise InputError(self.prog, unknown, f"no such option{near or f'; see `{self.prog} -h`'}")
        number = re.fullmatch(r"argument (--\w+): invalid int value: '(.*)'", message)
        if number:
            raise InputError(number[1], number[2], "must be a valid integer")
        raise InputError(self.prog, "", f"{message}; see `{self.prog} -h`")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = _Parser(
        "fastalloc explain",
        description="Explain page allocation failures, OOM, SLUB and vmalloc reports of Linux 2.6.9 to 7.x. Each "
        "report is judged by the rules of its own kernel: the mask decoded, the watermark sum done for every zone, and "
        "what would have let the request pass. Sizes are in pages. Reports are found in whole logs as in pastes.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="log or paste, plain or gzip; - is standard input")
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="write a list with an object for each report"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page that works offline")
    parser.add_argument(
        "--machine", type=Path, metavar="FILE", help="write the machine of the first report with zones, for `run`"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=100,
        metavar="N",
        help="answer at most N reports of a log and count the others [default: 100; 0 answers all]",
    )
    return parser


def run(args: list[str]) -> None:
    """Runs the command.

    Raises:
        InputError: a file cannot be read, or holds no report.
    """
    options = parser().parse_args(args)
    if options.limit < 0:
        raise InputError("--limit", str(options.limit), "must be 0 (all) or more")
    files, as_json, html, machine = options.files, options.as_json, options.html, options.machine
    from fastalloc.explain.answer import Answer, as_text
    from fastalloc.explain.log import iter_answers
    from fastalloc.explain.refusal import no_report

    kept: list[Answer] = []
    faults: list[InputError] = []  # of a file: the others are answered all the same
    count, width = 0, columns(sys.stdout)
    for name in files:
        before, beyond = count, Counter[str]()
        try:
            with reading(name, "", "cannot be answered"):
                for answer in iter_answers(name, options.limit, beyond):
                    if as_json:
                        sys.stdout.write((",\n" if count else "[\n") + json.dumps(answer.as_json(), indent=1))
                    else:
                        text = ("\n" if count else "") + as_text(answer, min(110, width or 110))
                        sys.stdout.write(fitted(text, width))
                    count += 1
                    if html is not None or (machine is not None and not kept and answer.decision.zones):
                        kept.append(answer)
            if count == before:
                faults.append(no_report(name))
        except InputError as error:
            faults.append(error)
        if beyond:
            most = "; ".join(f"{number} times {head}" if number > 1 else head for head, number in beyond.most_common(5))
            left = beyond.total()
            reports = "1 more report is" if left == 1 else f"{left} more reports are"
            say(f"{name}: {reports} not answered: {most} (--limit 0)", err=True)
    if as_json and count:
        sys.stdout.write("\n]\n")
    if html is not None:
        from fastalloc.explain.page import write_page

        write_page(html, kept)
        say(f"page    {html}", err=True)
    if machine is not None:
        from fastalloc.explain.machine import write_machine

        write_machine(machine, kept)
        say(f"machine {machine}", err=True)
    if faults:
        first = faults[0]
        raise InputError(first.path, first.where, first.message, faults[1:])
