"""The smoothed response: right where it is known, and drawn where it can be."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from fastalloc.report.sensitivity import Influence, Sensitivity, influence_chart
from fastalloc.report.surface import LEAST_VALUES, MOST_POINTS, curves, smooth_axes, smoothed, surface
from fastalloc.report.sweep_page import response_panels


def sampled(function, count, lanes, axes, seed=1):
    random = np.random.default_rng(seed)
    places = random.random((count, axes))
    return places, random.binomial(lanes, function(*places.T)).astype(float), np.full(count, float(lanes))


@pytest.mark.parametrize(
    "function",
    [lambda x, y: 1 / (1 + np.exp(12 * (x + y - 1))), lambda x, y: 0.1 + 0.5 * x, lambda x, y: np.full_like(x, 0.02)],
    ids=["edge", "slope", "flat"],
)
def test_a_known_surface_is_found(function):
    places, hits, lanes = sampled(function, 400, 32, 2)
    at = np.random.default_rng(2).random((200, 2)) * 0.9 + 0.05
    error = smoothed(places, hits, lanes, at) - function(*at.T)
    assert np.sqrt((error**2).mean()) < 0.04  # of a single share: up to 0.09
    assert abs(error.mean()) < 0.01


def test_noise_is_smoothed_and_an_edge_is_kept():
    """The width of the kernel follows what the points foretell of each other."""
    at = np.linspace(0.05, 0.95, 50)[:, None]
    flat = smoothed(*sampled(lambda x: np.full_like(x, 0.3), 60, 8, 1), at)
    assert np.ptp(flat) < 0.1
    edge = smoothed(*sampled(lambda x: np.where(x < 0.5, 0.95, 0.02), 200, 16, 1), at)
    assert edge[at[:, 0] < 0.42].min() > 0.85
    assert edge[at[:, 0] > 0.58].max() < 0.1


def test_far_from_all_points_the_nearest_tells():
    places = np.array([[0.0], [0.01], [0.02]])
    share = smoothed(places, np.array([0.0, 0.0, 1.0]), np.full(3, 4.0), np.array([[1.0]]))[0]
    assert 0 < share <= 0.25  # and no division of nothing by nothing


def table(points):
    random = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "variant": ["rc8"] * points,
            "a": random.integers(1, 1000, points),
            "b": random.random(points) + 1,
            "c": ["x", "y"] * (points // 2),
            "lanes": [4] * points,
            "livelocks": random.integers(0, 5, points),
        },
        schema_overrides={"a": pl.Int64},
    )


def test_specifications_hold_the_axes_and_the_points():
    points = table(40)
    assert smooth_axes(points, ["a", "b", "c"]) == ["a", "b"]
    assert smooth_axes(points.head(LEAST_VALUES - 1), ["a", "b"]) == []
    spec = surface(points, ["a", "b"])
    ground, data = spec["layer"][0], spec["datasets"]
    assert (ground["encoding"]["x"]["scale"]["type"], ground["encoding"]["y"]["scale"]["type"]) == ("log", "linear")
    assert len(data["dots"]) == 40
    cells = pl.DataFrame(data["cells"])
    assert cells["share"].is_between(0, 1).all()
    assert cells["x"].min() == points["a"].min()
    assert cells["x2"].max() == points["a"].max()
    assert {row["variant"] for row in curves(points, "b")["datasets"]["lines"]} == {"rc8"}


def test_the_page_draws_the_two_axes_that_matter_and_tells_of_variants_without_a_livelock():
    dataset = SimpleNamespace(manifest={"sweep": {"axes": ["a", "b", "d"]}})
    points = table(40).with_columns(d=pl.Series(range(40)))
    fix = points.with_columns(variant=pl.lit("fix"), livelocks=pl.lit(0, pl.Int64))
    influences = [Influence("b", 0.1, 0.0, 0.2, 0.0), Influence("d", 0.5, 0.0, 0.6, 0.0)]
    found = [Sensitivity("rc8", "livelock", "RBD-FAST", 40, None, influences)]
    panels, calm = response_panels(dataset, pl.concat([points, fix]), found)
    assert [panel.title for panel in panels] == ["rc8, averaged over a"]
    assert calm == ["fix"]
    for axes, drawn in ((["b"], "over b"), (["a", "b"], "rc8")):
        dataset.manifest["sweep"]["axes"] = axes
        panels, calm = response_panels(dataset, pl.concat([points, fix]), [])
        assert [panel.title for panel in panels] == [drawn]
    assert influence_chart(found[0])["layer"]


def test_many_points_are_put_together():
    points = table(4 * MOST_POINTS)
    cells = pl.DataFrame(surface(points, ["a", "b"])["datasets"]["cells"])
    assert cells["share"].is_between(0.4, 0.6).all()
