"""What a result says about its origin: code, scenario, seed, environment."""

import json
import platform
from functools import cache
from importlib import metadata
from typing import Any

from fastalloc.model_digest import MODEL_VERSION, model_digest
from fastalloc.scenario import Varied

SCHEMA_VERSION = 1
FOOTER_KEY = b"fastalloc"
LIBRARIES = ("numba", "llvmlite", "numpy", "polars", "pyarrow", "pydantic")


@cache
def version(name: str) -> str:
    """Of an installed package; a file is read for it, and every shard tells it."""
    return metadata.version(name)


def provenance(scenario: Varied, seed: int) -> dict[str, Any]:
    """The record that goes into every Parquet footer and the manifest; it holds no time and no path."""
    return {
        "schema_version": SCHEMA_VERSION,
        "software": "fastalloc",
        "version": version("fastalloc"),
        "model_version": MODEL_VERSION,
        "model_digest": model_digest(),
        "scenario": scenario.model_dump(mode="json", exclude_none=True),
        "seed": seed,
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Operating system, machine, Python and the libraries that shape the files."""
    return {
        "os": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def footer(record: dict[str, Any]) -> dict[bytes, bytes]:
    """The record as Parquet key-value metadata."""
    return {FOOTER_KEY: json.dumps(record, sort_keys=True, separators=(",", ":")).encode()}
