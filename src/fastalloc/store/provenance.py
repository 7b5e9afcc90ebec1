"""What a result says about its origin: code, scenario, seed, environment."""

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastalloc.compiler.cache_dir import sources_digest
from fastalloc.scenario import Varied

# Raise it when numbers change for a reason that the sources in the digest do not show.
MODEL_VERSION = 1
SCHEMA_VERSION = 1
FOOTER_KEY = b"fastalloc"
LIBRARIES = ("numba", "llvmlite", "numpy", "polars", "pyarrow", "pydantic")


PACKAGE = Path(__file__).parent.parent
# What turns a scenario into arrays: caches and their merging, geometry, watermarks.
SET_UP = ("batch/*.py", "scenario/machine.py", "scenario/slab_arrays.py", "scenario/slub_arrays.py")


@cache
def model_digest(package: Path = PACKAGE) -> str:
    """SHA-256, hexadecimal: equal digests, equal numbers.

    Over ``MODEL_VERSION``, all kernel sources, and the sources below ``package`` that turn a scenario into arrays.
    """
    digest = hashlib.sha256(f"{MODEL_VERSION}\0{sources_digest(package)}".encode())
    for path in sorted(path for pattern in SET_UP for path in package.glob(pattern)):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


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
