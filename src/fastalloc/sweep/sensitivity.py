"""The sensitivity indices of a dataset, by the design that its sweep file made."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from fastalloc.errors import InputError, meant, reading
from fastalloc.report.sensitivity import (
    LEAST_POINTS,
    RESAMPLES,
    SAME,
    SEED,
    Influence,
    Sensitivity,
    grid_influences,
    saltelli_influences,
    sampled_influences,
)
from fastalloc.report.sweep import OUTCOME, is_sweep, plain_runs, varying_axes
from fastalloc.store import Dataset
from fastalloc.store.write import MANIFEST
from fastalloc.sweep.axes import Settings, sample_settings
from fastalloc.sweep.model import SweepFile

LEAST_LANES = 4  # a point, to draw from
MOST_VALUES = 10_000_000
LIVELOCK = "livelock"  # what the share of livelocked lanes is called


def sensitivity(dataset: Dataset, of: str = LIVELOCK) -> list[Sensitivity]:
    """The indices of every variant; with a Saltelli sample for every setting of the other axes too.

    Args:
        of: ``livelock``, the share of lanes livelocked for more than 5 s, or a metric of ``runs/``, its mean.

    Raises:
        InputError: no sweep, an unknown metric, too few points, a figure that is the same at all of them; or SALib is
            needed and not installed.
    """
    if not is_sweep(dataset):
        raise InputError(dataset.path, "", "is not the dataset of a sweep")
    metric = OUTCOME if of == LIVELOCK else of
    kinds = dataset.runs.collect_schema()
    if metric not in kinds or not kinds[metric].is_numeric():
        raise InputError("--of", of, f"is neither {LIVELOCK} nor a metric of runs/{meant(of, [LIVELOCK, *kinds])}")
    with reading(dataset.path / MANIFEST, "sweep", "tells no sweep"):
        sweep = SweepFile.model_validate(dataset.manifest["sweep"]["file"])
        columns = dataset.manifest["sweep"]["columns"]
        points = _points(dataset, metric, dataset.manifest["sweep"]["varied"])
        axes = varying_axes(dataset, points)
        design = next((sample for sample in sweep.samples if sample.method == "saltelli"), None)
        own = [columns[key] for key in design.axes] if design else axes
    if not axes:
        raise InputError(dataset.path, "", "no parameter varies between its points")
    rest = [axis for axis in axes if axis not in own]
    found = []
    for values, part in points.group_by("variant", *rest, maintain_order=True):
        told = ", ".join(f"{axis} = {value}" for axis, value in zip(rest, values[1:], strict=True))
        title = f"{values[0]}{': ' + told if told else ''}"
        if part["mean"].n_unique() == 1:
            found.append(Sensitivity(title, of, SAME, len(part), None, []))
            continue
        if design:
            rows = [{columns[key]: value for key, value in row.items()} for row in sample_settings(design)]
            method, influences = "Sobol (Saltelli)", saltelli_influences(own, _in_order(dataset, part, rows))
        else:
            method, influences = _given(dataset, part, own)
        influences.sort(key=lambda it: -(it.first if it.total is None else it.total))
        lanes = _lanes(part)
        found.append(Sensitivity(title, of, method, len(part), lanes.chance() if lanes else None, influences))
    if all(part.method == SAME for part in found):
        raise InputError(dataset.path, of, "is the same at every point: there is nothing to explain")
    return found


def _points(dataset: Dataset, metric: str, columns: Sequence[str]) -> pl.DataFrame:
    """A row a point: ``variant``, the columns, ``mean`` of the metric over lanes; lists of ``lane`` and ``value``."""
    return (
        plain_runs(dataset)
        .group_by("point")
        .agg(pl.first("variant", *columns), pl.mean(metric).alias("mean"), "lane", pl.col(metric).alias("value"))
        .sort("point")
        .collect()
    )


class _Lanes(NamedTuple):
    """What the lanes of some points gave. Lanes of one number met the same random events at all points."""

    value: np.ndarray  # float64[points, lanes]; 0 where there is none
    there: np.ndarray  # float64[points, lanes], 1 or 0

    def drawn_anew(self) -> np.ndarray:
        """Means of the points over lanes drawn with replacement, the same at all points: float64[RESAMPLES, points]."""
        lanes = self.value.shape[1]
        weights = np.random.default_rng(SEED).multinomial(lanes, np.full(lanes, 1 / lanes), RESAMPLES).astype(float)
        sums, counts = self.value @ weights.T, self.there @ weights.T
        mean = self.value.sum(axis=1) / self.there.sum(axis=1)
        means: np.ndarray = np.where(counts > 0, sums / np.maximum(counts, 1), mean[:, None]).T
        return means

    def chance(self) -> float:
        """Share of the variance between points that is left to chance: what lanes differ by in another way at each."""
        means = self.drawn_anew()
        apart = means - means.mean(axis=1, keepdims=True)  # what all points share is no difference
        return min(1.0, float(apart.var(axis=0, ddof=1).mean() / apart.mean(axis=0).var()))


def _lanes(part: pl.DataFrame) -> _Lanes | None:
    """The lanes of points; None where they are too few to draw from, or too many to hold."""
    width = int(part["lane"].explode().max()) + 1  # type: ignore[arg-type]
    if width < LEAST_LANES or width * len(part) > MOST_VALUES:
        return None
    found = _Lanes(np.zeros((len(part), width)), np.zeros((len(part), width)))
    rows = np.repeat(np.arange(len(part)), part["lane"].list.len().to_numpy())
    where = rows, part["lane"].explode().to_numpy()
    found.value[where], found.there[where] = part["value"].explode().to_numpy(), 1
    return found


def _in_order(dataset: Dataset, part: pl.DataFrame, rows: Sequence[Settings]) -> np.ndarray:
    """The figure at each row of a design, of which some may be the same point."""
    known: dict[tuple[Any, ...], float] = {}
    names = list(rows[0])
    for row in part.select("mean", *names).iter_rows():
        known[row[1:]] = row[0]
    try:
        return np.array([known[tuple(row[name] for name in names)] for row in rows])
    except KeyError:
        raise InputError(dataset.path, "", "lacks points of its Saltelli sample: it is not complete") from None


def _given(dataset: Dataset, part: pl.DataFrame, names: Sequence[str]) -> tuple[str, list[Influence]]:
    """Indices from what points there are: sums on a full grid, else RBD-FAST."""
    ranks = {name: _ranks(part[name]) for name in names}
    sizes = [int(ranks[name].max()) + 1 for name in names]
    where = tuple(ranks[name] for name in names)
    if len(part) == np.prod(sizes) == len(set(zip(*where, strict=True))):
        order = np.lexsort(where[::-1])
        lanes = _lanes(part)
        again = lanes.drawn_anew()[:, order].reshape(-1, *sizes) if lanes else None
        return "full grid", grid_influences(names, part["mean"].to_numpy()[order].reshape(sizes), again)
    if len(part) < LEAST_POINTS:
        raise InputError(
            dataset.path, "", f"{len(part)} points that are no full grid; at least {LEAST_POINTS} are needed"
        )
    return "RBD-FAST", sampled_influences(names, np.column_stack(where), part["mean"].to_numpy())


def _ranks(values: pl.Series) -> np.ndarray:
    """The place of each value among the values there are, int64."""
    order: Mapping[Any, int] = {value: i for i, value in enumerate(values.unique(maintain_order=True).sort())}
    return np.array([order[value] for value in values])
