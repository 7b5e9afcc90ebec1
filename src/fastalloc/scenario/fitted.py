"""A workload fitted from a trace, as a file: what each cache of a machine was asked for.

JSON. For each cache of the trace: ``rate`` (allocations a second), ``gap_ns`` (time between two allocations) and
``life_ns`` (of objects freed while the trace ran), both as QUANTILES evenly spaced quantiles, ``kept`` (share of
objects never freed), ``cpus`` (share of each CPU in the allocations), ``away`` (share of frees on another CPU),
``dispersion`` (variance over mean of the allocations in 10 ms: 1 for Poisson, larger for bursts), and what an event
carries: src, bytes_req, bytes_alloc, gfp_flags, node. ``span_ns``: how long the trace was.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fastalloc.bounded import MOST_JSON, json_of
from fastalloc.errors import InputError, reader, shown
from fastalloc.foreign import MOST_NODES, content_of

FORMAT = "fastalloc workload 1"
QUANTILES = 65
MOST_CACHES = 1 << 13
_NUMBERS = ("rate", "kept", "away", "bytes_req", "bytes_alloc", "gfp_flags", "node")
_WHOLE = {"bytes_req": 0, "bytes_alloc": 0, "gfp_flags": 0, "node": -1}  # at least
_LISTS = ("gap_ns", "life_ns", "cpus")


@reader("is not readable as JSON")
def read_workload(path: Path) -> dict[str, Any]:
    """A fitted workload. Raises InputError naming the field that is missing or wrong."""
    return parse_workload(content_of(path, MOST_JSON).decode("utf-8"), path)


def parse_workload(text: str, path: object) -> dict[str, Any]:
    """The same of the text of such a file; ``path`` is named in errors."""
    load = json_of(path, text)
    if not isinstance(load, dict) or load.get("format") != FORMAT:
        raise InputError(path, "format", f"must be {FORMAT!r}; `fastalloc trace fit` writes it")
    if not isinstance(load.get("caches"), list) or not load["caches"]:
        raise InputError(path, "caches", "must be a list that is not empty")
    if not isinstance(load.get("span_ns"), int) or not 0 < load["span_ns"] < 1 << 62:
        raise InputError(path, "span_ns", "must be how long the trace ran, in ns")
    if len(load["caches"]) > MOST_CACHES:
        raise InputError(path, "caches", f"more than {MOST_CACHES:,}")
    for i, cache in enumerate(load["caches"]):
        if not isinstance(cache, dict) or not all(isinstance(cache.get(key), str) for key in ("cache", "src")):
            raise InputError(path, f"caches[{i}]", "needs the texts cache and src")
        for key in _NUMBERS:
            value = cache.get(key)
            if not isinstance(value, int | float) or isinstance(value, bool) or not -1 <= value < 1 << 32:
                raise InputError(path, f"caches[{i}].{key}", f"must be a number, not {shown(value)}")
        for key, least in _WHOLE.items():
            if not isinstance(cache[key], int) or cache[key] < least or (key == "node" and cache[key] >= MOST_NODES):
                raise InputError(path, f"caches[{i}].{key}", f"must be a whole number, not {shown(cache[key])}")
        for key in _LISTS:
            values = cache.get(key)
            if not isinstance(values, list) or not all(isinstance(v, int | float) and 0 <= v < 1 << 62 for v in values):
                raise InputError(path, f"caches[{i}].{key}", "must be a list of numbers that are not negative")
        if cache["rate"] <= 0:
            raise InputError(path, f"caches[{i}].rate", f"must be above 0, not {cache['rate']!r}")
        shares = sum(cache["cpus"])
        if not cache["gap_ns"] or not 0.99 < shares < 1.01:
            raise InputError(path, f"caches[{i}]", "needs gaps, and shares of CPUs that add up to 1")
        if (not cache["life_ns"] and cache["kept"] < 1) or sum(cache["gap_ns"]) == 0:
            raise InputError(path, f"caches[{i}]", "needs lives where not all objects are kept, and gaps above 0")
    return load


def scaled_gaps(cache: dict[str, Any]) -> np.ndarray:
    """float64[n]: the quantiles of a cache's gaps, scaled so that straight lines between them keep its rate."""
    gaps = np.asarray(cache["gap_ns"], np.float64)
    mean = float(np.trapezoid(gaps, dx=1 / (len(gaps) - 1))) if len(gaps) > 1 else float(gaps[0])
    scaled: np.ndarray = gaps * (1e9 / cache["rate"] / max(mean, 1e-9))
    return scaled


__all__ = ["FORMAT", "MOST_CACHES", "QUANTILES", "parse_workload", "read_workload", "scaled_gaps"]
