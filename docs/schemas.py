"""Makes what is told twice: JSON Schemas of the files a user writes, and columns of a dataset in docs/datasets*.md.

Both take their words from the comments beside the fields and names in the source. ``make schemas`` runs this.
"""

import ast
import inspect
import json
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from benchmarks.tables import replaced
from pydantic import BaseModel

from fastalloc.compiler.records import Record
from fastalloc.kernels.lane.metrics import EVENT, METRIC, SERIES
from fastalloc.scenario import Machine, Scenario, load_scenario
from fastalloc.scenario.load import SCHEMAS
from fastalloc.store.provenance import SCHEMA_VERSION
from fastalloc.store.schema import EVENTS_SCHEMA, LEDGER_SCHEMA, SERIES_SCHEMA, flat_parameters, runs_schema
from fastalloc.sweep import SweepFile

DOCS = Path(__file__).parent
MODELS: dict[str, type[BaseModel]] = {"machine": Machine, "scenario": Scenario, "sweep": SweepFile}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
OWN = {
    "id": "the lane, counted through the dataset",
    "variant": "name of the variant",
    "lane": "the lane, counted through the variant, or through the point of a sweep",
    "point": "of a sweep, in the order of its file; only there",
    "seed": "of all randomness",
    "owner": "who asked when the slab was allocated (see `who` in the manifest)",
    "depth": "how deep into the reserve its page was (see `depths` in the manifest)",
    "taker": "who took slots of it",
    "objects": "how many",
    "t_ns": "simulated time",
    "t_ms": "simulated time",
    "kind": "of the event",
    "cpu": "on which it happened, -1 none",
    "task": "number of the task that ran, -1 none",
}


def schema_text(name: str) -> str:
    """The JSON Schema of a file that a user writes: ``machine``, ``scenario`` or ``sweep``."""
    schema = MODELS[name].model_json_schema()
    definitions = schema.get("$defs", {})
    for model in _models(MODELS[name]):
        target = schema if model is MODELS[name] else definitions[model.__name__]
        for field, comment in _comments(model).items():
            target["properties"][field]["description"] = comment
    for part in (schema, *definitions.values()):
        part.pop("title", None)
        for field in part.get("properties", {}).values():
            field.pop("title", None)
    if name == "scenario":
        _allow_other_machines(schema)
    text = {"$schema": DIALECT, "title": f"fastalloc {name}", **schema}
    return json.dumps(text, indent=1, ensure_ascii=False) + "\n"


def runs_text() -> str:
    """The columns of ``runs/``, a line a column, as Markdown."""
    scenario = load_scenario("swap-livelock").variant("rc8")
    fields = {name: text for model in _models(Scenario) for name, text in _dotted(model)}
    runs = runs_schema(flat_parameters(scenario), pointed=True)
    parameters = [field for field in runs if field.name not in OWN and field.name not in METRIC.names]
    words = OWN | fields | _meanings(METRIC)
    parts = [
        f"Schema version {SCHEMA_VERSION}, as `schema_version` in the manifest and in every footer.",
        _table("## Who a lane is", [field for field in runs if field.name in OWN], words),
        _table("## Metrics", [field for field in runs if field.name in METRIC.names], words),
        _table("## Parameters", parameters, words),
    ]
    return _joined(parts)


def columns_text() -> str:
    """The columns of the other tables of a dataset."""
    events = dict.fromkeys(("a", "b", "c"), "by kind, see below; -1 where there is nothing to tell")
    parts = [
        _table("### `series/`", SERIES_SCHEMA, OWN | _meanings(SERIES)),
        _table("### `events/`", EVENTS_SCHEMA, OWN | events),
        "| kind | a, b, c |\n|---|---|\n"
        + "".join(f"| `{kind}` | {_meanings(EVENT).get(kind, '')} |\n" for kind in EVENT.names),
        _table("### `ledger/`", LEDGER_SCHEMA, OWN),
    ]
    return _joined(parts)


PAGES = {"datasets.md": columns_text, "datasets-runs.md": runs_text}


def write_all() -> None:
    """Brings schemas and page up to date."""
    for name in MODELS:
        (SCHEMAS / f"{name}.json").write_text(schema_text(name), encoding="utf-8")
    for name, made in PAGES.items():
        page = DOCS / name
        page.write_text(replaced(page.read_text(encoding="utf-8"), "columns", made()), encoding="utf-8")


def _allow_other_machines(schema: dict[str, Any]) -> None:
    """In a file ``machine`` may be a name, a path, or a table that names what it starts from."""
    whole = schema["$defs"]["Machine"]
    start = {"type": "string", "description": "a machine preset or file that the other keys change"}
    schema["$defs"]["MachineFrom"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"from": start, **whole["properties"]},
        "required": ["from"],
    }
    named = {"type": "string", "description": "a machine preset, or a path relative to this file"}
    schema["properties"]["machine"] = {
        "anyOf": [named, {"$ref": "#/$defs/MachineFrom"}, {"$ref": "#/$defs/Machine"}],
        "description": schema["properties"]["machine"].get("description", "what the kernel runs on"),
    }


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and those inside it."""
    found = [model]
    for inner in found:
        for field in inner.model_fields.values():
            found += [part for part in _parts(field.annotation) if part not in found]
    return found


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _parts(part)


def _comments(thing: type) -> dict[str, str]:
    """The comment beside each field of a class, on its last line or alone above it."""
    source = textwrap.dedent(inspect.getsource(thing))
    beside, alone = _comment_lines(source)
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above, line = [], node.lineno - 1
            while line in alone:
                above.insert(0, alone[line])
                line -= 1
            text = beside.get(node.end_lineno or 0) or " ".join(above)
            if text:
                found[node.target.id] = text
    return found


def _meanings(record: type[Record]) -> dict[str, str]:
    """The meaning of each field of a record, by its name in tables."""
    return {field.label: field.meaning for field in record.fields}


def _comment_lines(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Comments by line: those after code, and those alone on theirs."""
    beside, alone = {}, {}
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            kind = beside if token.line[: token.start[1]].strip() else alone
            kind[token.start[0]] = token.string.lstrip("# ")
    return beside, alone


def _dotted(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Columns of the fields of a part of the scenario, with their comments."""
    for key, field in Scenario.model_fields.items():
        if model in _parts(field.annotation):
            yield from ((f"{key}.{name}", text) for name, text in _comments(model).items())


def _joined(parts: list[str]) -> str:
    return "\n" + "\n\n".join(part.strip() for part in parts) + "\n\n"


def _table(heading: str, columns: Iterable[pa.Field], words: dict[str, str]) -> str:
    lines = [f"{heading}\n", "| column | type | |", "|---|---|---|"]
    lines += [f"| `{field.name}` | {field.type} | {words.get(field.name, '')} |" for field in columns]
    return "\n".join(lines)


if __name__ == "__main__":
    write_all()
