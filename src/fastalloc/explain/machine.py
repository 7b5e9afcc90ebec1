"""The machine of a report, for ``fastalloc run``: its zones as read, handed to the importer of machines."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastalloc.bounded import decoded
from fastalloc.errors import InputError
from fastalloc.explain.answer import Answer
from fastalloc.explain.mem_info import MemInfo, ZoneInfo
from fastalloc.foreign import content_of
from fastalloc.written import write_text

if TYPE_CHECKING:
    from fastalloc.scenario import Machine

MOST_LINES = 100_000  # of a log that is read for more than its reports
_CPU = re.compile(r"\bCPU: \d+ (?:UID: \d+ )?PID:|^\s*(?:CPU|cpu) +\d+|per-cpu:")


def write_machine(path: Path, answers: list[Answer]) -> None:
    """Writes the machine of the first report with zones as TOML.

    Raises:
        InputError: no report shows zones, or its machine is not one that can be run.
    """
    from fastalloc.scenario import machine_toml

    write_text(path, machine_toml(machine_of(path, answers)))


def machine_of(path: Path, answers: list[Answer], log: Path | None = None, kernel: str | None = None) -> "Machine":
    """The machine of the first report with zones, named after ``path``.

    ``log``: the file that holds the report, of which meminfo, slabinfo and the like are read too. ``kernel``: the
    release, where the log does not tell it, or wrongly.

    Raises:
        InputError: no report shows zones, or its machine is not one that can be run.
    """
    from fastalloc.scenario import import_machine

    answer = next((answer for answer in answers if answer.decision.zones), None)
    if answer is None or answer.report.mem_info is None:
        raise InputError(path, "", "no report shows its zones: a machine needs the Mem-Info block")
    if not any({"present", "managed"} & info.kb.keys() for info in answer.report.mem_info.zones):
        raise InputError(answer.source, "", "the sizes of its zones (present) are cut off: a machine needs whole lines")
    release = answer.kernel.release
    with TemporaryDirectory() as folder:
        # Named after the log, whose name the machine's source then tells.
        file = Path(folder) / (Path(answer.source).name or "report")
        block = _cpu_lines(answer.report.text) + as_printed(answer.report.mem_info)
        rest = decoded(content_of(log)) if log is not None else ""
        file.write_text(block + (rest if rest.count("\n") < MOST_LINES else ""), encoding="utf-8")
        try:
            told = kernel or (release.text if answer.kernel.in_text else None)
            machine = import_machine(file, path.stem, kernel=told)
            if "kernel not told" not in machine.source:
                return machine
            machine = import_machine(file, path.stem, kernel=release.text)
        except InputError as error:
            raise InputError(answer.source, error.where, error.message) from None
    assumed = f"kernel not told: the rules of {release.name} assumed, of {answer.kernel.within} which print so"
    return machine.model_copy(update={"source": machine.source.replace(f"Linux {release.text}", assumed, 1)})


def _cpu_lines(text: str) -> str:
    """The lines of a report that name CPUs: of the one that printed it, and of the lists of each."""
    return "".join(f"{line}\n" for line in text.split("\n") if _CPU.search(line))


def as_printed(block: MemInfo) -> str:
    """A Mem-Info block as the kernel prints it, without what a log or a mail made of it, and the size of a page."""
    lines = [f"PAGESIZE {block.page_kb * 1024}"] if block.page_kb != 4 else []
    lines.append("Mem-Info:")
    for info in block.zones:
        fields = " ".join(f"{name}:{size}kB" for name, size in info.kb.items())
        lines.append(f"{_node(block, info)}{info.zone} {fields}")
        if info.reserve is not None:
            lines.append(f"lowmem_reserve[]: {' '.join(map(str, info.reserve))}")
    for info in block.zones:
        if info.lists is not None:
            items = [
                f"{count}*{info.lists.unit_kb << order}kB" + (f" ({letters})" if letters else "")
                for order, (count, letters) in enumerate(info.lists.blocks)
            ]
            lines.append(f"{_node(block, info)}{info.zone}: {' '.join(items)} = {info.kb.get('free', 0)}kB")
    lines += [f"{name} swap = {size}kB" for name, size in block.swap_kb.items()]
    return "\n".join(lines) + "\n"


def _node(block: MemInfo, info: ZoneInfo) -> str:
    return f"Node {info.node} " if block.numa else ""
