"""The machine of a report, for ``fastalloc run``: its zones with their marks, reserves and free pages."""

from pathlib import Path
from typing import Any

from fastalloc.errors import InputError
from fastalloc.explain.answer import Answer
from fastalloc.explain.mem_info import MemInfo, ZoneInfo
from fastalloc.linux.mem_info import ZONES


def write_machine(path: Path, answers: list[Answer]) -> None:
    """Writes the machine of the first report with zones as TOML.

    Raises:
        InputError: no report shows zones, or its machine is not one that can be run.
    """
    import tomli_w
    from pydantic import ValidationError

    from fastalloc.scenario.machine import Machine
    from fastalloc.scenario.varied import input_error

    answer = next((answer for answer in answers if answer.decision.zones), None)
    if answer is None:
        raise InputError(path, "", "no report shows its zones: a machine needs the Mem-Info block")
    data = machine_of(answer)
    try:
        Machine.model_validate(data)
    except ValidationError as error:
        raise input_error(error, answer.source) from None
    path.write_text(tomli_w.dumps(data), encoding="utf-8")


def machine_of(answer: Answer) -> dict[str, Any]:
    """The machine's data: pages of the report, nodes joined by zone, what it does not say assumed and named."""
    block = answer.report.mem_info
    assert block is not None
    present = [zone for zone in ZONES if any(info.zone == zone and _size(block, info) for info in block.zones)]
    zones = [_zone(answer, block, zone, present) for zone in present]
    said = [f"{answer.source}:{answer.report.line}", f"kernel {answer.kernel.release.text}"]
    said += ["cpus 2, hz 250, cache_line 64 and per-CPU lists assumed", "slab caches are not in the report"]
    if len({info.node for info in block.zones}) > 1:
        said.append("nodes joined into one")
    return {
        "name": f"report-{answer.report.line}",
        "source": "; ".join(said),
        "cpus": 2,
        "swap_pages": block.swap_kb.get("Total", 0) // block.page_kb,
        "zones": zones,
        "free_pages": {
            zone: sum(block.pages(info, "free") or 0 for info in block.zones if info.zone == zone) for zone in present
        },
    }


def _size(block: MemInfo, info: ZoneInfo) -> int:
    return block.pages(info, "managed") or block.pages(info, "present") or 0


def _zone(answer: Answer, block: MemInfo, zone: str, present: list[str]) -> dict[str, Any]:
    same = [info for info in block.zones if info.zone == zone]
    layout = answer.decision.layout
    reserve = next((info.reserve for info in same if info.reserve), None)
    protection = [
        reserve[layout.index(other)] if reserve and other in layout and len(reserve) == len(layout) else 0
        for other in present
    ]
    boost = sum(block.pages(info, "boost") or 0 for info in same)
    marks = {
        name: max(sum(block.pages(info, name) or 0 for info in same) - boost, 0) for name in ("min", "low", "high")
    }
    return {
        "name": zone,
        "present": sum(_size(block, info) for info in same),
        **marks,
        "protection": protection,
        "pcp_high": 186,
        "pcp_batch": 31,
    }
