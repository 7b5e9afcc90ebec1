"""Axes to values: lists, ranges, samplers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastalloc.sweep.model import Interval, Range, Sample

Settings = dict[str, Any]


def range_values(spec: Range) -> list[int] | list[float]:
    """The values of a range, in order.

    Raises:
        ValueError: values fall together when they are rounded to integers.
    """
    start, stop = spec.start, spec.stop
    whole = isinstance(start, int) and isinstance(stop, int) and (spec.step is None or isinstance(spec.step, int))
    if spec.count is not None:
        spread = np.geomspace if spec.log else np.linspace
        values: list[Any] = spread(start, stop, spec.count).tolist()
    else:
        assert spec.step is not None
        n = range_length(spec)
        values = [start + i * spec.step for i in range(n)]
    if whole:
        values = [round(value) for value in values]
    else:
        values = [float(value) for value in values]
    if len(set(values)) < len(values):
        raise ValueError(f"{len(values) - len(set(values))} of {len(values)} values fall together; ask for fewer")
    return values


def range_length(spec: Range) -> int:
    """How many values a range has, without making them."""
    if spec.count is not None:
        return spec.count
    assert spec.step is not None
    return int((spec.stop - spec.start) / spec.step + 1e-9) + 1


def sample_settings(sample: Sample) -> list[Settings]:
    """The settings of each sampled point; the same seed gives the same points."""
    from scipy.stats import qmc  # half a second, for which a grid does not wait

    dimensions = len(sample.axes)
    if sample.method == "saltelli":
        unit = _saltelli(dimensions, sample.points // (dimensions + 2), sample.seed)
    elif sample.method == "sobol":
        # drawn as a whole power of two, which keeps the sequence balanced, and cut to length
        engine = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(sample.seed))
        unit = engine.random_base2((sample.points - 1).bit_length())[: sample.points]
    else:
        unit = qmc.LatinHypercube(dimensions, rng=np.random.default_rng(sample.seed)).random(sample.points)
    columns = {key: _stretched(unit[:, i], interval) for i, (key, interval) in enumerate(sample.axes.items())}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _saltelli(dimensions: int, pairs: int, seed: int) -> np.ndarray:
    """Pairs of points A and B; to each A, then A with one column of B after the other, then B [Saltelli et al. 2010].

    The order is that of SALib. ``pairs`` is a power of two.
    """
    from scipy.stats import qmc

    engine = qmc.Sobol(2 * dimensions, scramble=True, rng=np.random.default_rng(seed))
    base = engine.random_base2(pairs.bit_length() - 1)
    first, second = base[:, :dimensions], base[:, dimensions:]
    rows = np.repeat(first[:, None, :], dimensions + 2, axis=1)
    for i in range(dimensions):
        rows[:, i + 1, i] = second[:, i]
    rows[:, -1] = second
    return rows.reshape(-1, dimensions)


def _stretched(unit: np.ndarray, interval: Interval) -> list[Any]:
    """Numbers of [0, 1) over an interval; each integer of a linear interval gets an equal share."""
    low, high = interval.low, interval.high
    whole = isinstance(low, int) and isinstance(high, int)
    if interval.log:
        values: list[float] = np.exp(np.log(low) + unit * (np.log(high) - np.log(low))).tolist()
        return [round(value) for value in values] if whole else values
    if whole:
        return [int(value) for value in np.minimum(np.floor(low + unit * (high - low + 1)), high).tolist()]
    evenly: list[float] = (low + unit * (high - low)).tolist()
    return evenly


def merged(parts: tuple[Mapping[str, Any], ...]) -> Settings:
    """The settings of one combination."""
    return {key: value for part in parts for key, value in part.items()}
