"""Pictures of the documentation, made from the files in results/: ``python -m docs.pictures`` draws them again.

They are files, so that a forge that shows the pages shows them too; each carries the digest of what it was drawn from.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert
from benchmarks.tables import number
from docs.own_tables import medians

RESULTS = Path(__file__).parents[1] / "results"
FOLDER = Path(__file__).parent / "_static" / "pictures"


def speeds() -> pl.DataFrame:
    """Work, value and its label: how many times as fast as real time each load of two CPUs runs on one thread."""
    rows = latest("closed_loop").filter((pl.col("unit") == "x real time") & pl.col("work").str.contains(", 2 CPUs"))
    rows = rows.filter(~pl.col("work").str.contains("65536|8192"))  # memory that the load does not fill
    return rows.select("work", "value", label=pl.col("value").map_elements(number, pl.String)).sort("value")


def speed() -> Any:
    """Simulated seconds a second, a load a row."""
    rows = speeds()
    chart = alt.Chart(alt.Data(values=rows.to_dicts()), width=420, height=alt.Step(26)).encode(
        x=alt.X("value:Q", title="simulated seconds a second (log scale)", scale=alt.Scale(type="log", domainMin=100)),
        y=alt.Y("work:N", title=None, sort="-x", axis=alt.Axis(labelLimit=320)),
    )
    points = chart.mark_point(filled=True, size=90, color="#2b7bba")
    return points + chart.mark_text(align="left", dx=9).encode(text="label:N")


def predicted_and_real() -> Any:
    """Pages predicted against pages real, over recordings of 7.2 and 7.3 (results/replay/accuracy-7.x.csv)."""
    table = pl.read_csv(RESULTS / "replay" / "accuracy-7.x.csv")
    rows = [
        {"figure": figure, "x": row[f"{figure}_real"], "y": row[figure]}
        for row in table.iter_rows(named=True)
        for figure in ("new", "peak", "end")
    ]
    most = max(max(row["x"], row["y"]) for row in rows)
    even = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": most, "y": most}])).mark_line(
        color="#8a94a3", strokeDash=[4, 3]
    )
    dots = alt.Chart(alt.Data(values=rows), width=340, height=340).mark_point(filled=True, size=60)
    x, y = alt.X("x:Q", title="real, pages"), alt.Y("y:Q", title="predicted, pages")
    colour = alt.Color("figure:N", title="slab pages", scale=alt.Scale(range=["#2b7bba", "#d64545", "#2f9e6e"]))
    return alt.layer(even.encode(x=x, y=y), dots.encode(x=x, y=y, color=colour))


def own_sheaves() -> Any:
    """New pages beside the kernel as traced against locks, a dot a configuration: medians of recorded runs of 7.3."""
    rows = medians(allocators=False).with_columns(
        kind=pl.when(pl.col("configuration") == "adaptive_sheaf.py")
        .then(pl.lit("adaptive"))
        .otherwise(pl.lit("fixed")),
        line=pl.col("configuration").replace_strict({"as traced": 1, "adaptive_sheaf.py": 2}, default=0),
    )
    base = alt.Chart(alt.Data(values=rows.to_dicts()), width=420, height=260)
    x = alt.X("locks_1000:Q", title="locks a thousand operations")
    y = alt.Y("more_new:Q", title="new pages beside the traced kernel, %")
    colour = alt.Color("kind:N", title=None, scale=alt.Scale(range=["#d64545", "#2b7bba"]))
    layers = [base.mark_point(filled=True, size=70).encode(x=x, y=y, color=colour)]
    for line, below in enumerate((-7, 12, 24)):  # the adaptive one lies where the kernel as traced does
        some = base.transform_filter(alt.datum.line == line)
        layers.append(some.mark_text(align="left", dx=7, dy=below).encode(x=x, y=y, text="configuration:N"))
    return alt.layer(*layers)


def own_allocators() -> Any:
    """New pages, slow allocations and locks a thousand operations of allocators, medians of recorded runs of 7.3."""
    figures = {"new_1000": "new pages", "slow_1000": "slow allocations", "locks_1000": "locks"}
    rows = [
        {"allocator": row["configuration"], "figure": title, "value": row[name]}
        for row in medians(allocators=True).iter_rows(named=True)
        for name, title in figures.items()
    ]
    bars = (
        alt.Chart(alt.Data(values=rows), width=420)
        .mark_bar()
        .encode(
            x=alt.X(
                "value:Q",
                title="a thousand operations",
                scale=alt.Scale(type="symlog"),
                axis=alt.Axis(values=[0, 1, 10, 100, 1000]),
            ),
            y=alt.Y("allocator:N", title=None, sort=None),
            yOffset=alt.YOffset("figure:N", sort=list(figures.values())),
            color=alt.Color("figure:N", title=None, scale=alt.Scale(range=["#2b7bba", "#2f9e6e", "#d64545"])),
        )
    )
    return bars


def own_slots() -> Any:
    """Objects of bios and sense buffers by who allocated their slab, under each policy of results/own."""
    rows = pl.read_csv(RESULTS / "own" / "ledger.csv").filter(pl.col("policy").is_in(["rc8", "fix", "sense_slots"]))
    rows = rows.with_columns(what=pl.col("taker") + " in a slab of a " + pl.col("owner"))
    bars = (
        alt.Chart(alt.Data(values=rows.to_dicts()), width=420)
        .mark_bar()
        .encode(
            x=alt.X(
                "objects:Q",
                title="objects taken",
                scale=alt.Scale(type="symlog"),
                axis=alt.Axis(values=[0, 10, 100, 1000, 10_000, 100_000]),
            ),
            y=alt.Y("policy:N", title=None, sort=None),
            yOffset="what:N",
            color=alt.Color("what:N", title=None),
        )
    )
    return bars


def latest(name: str) -> pl.DataFrame:
    """The rows of the last run of a benchmark (results/benchmarks/)."""
    table = pl.read_parquet(RESULTS / "benchmarks" / f"{name}.parquet")
    return table.filter(pl.col("at") == pl.col("at").max())


PICTURES: dict[str, Callable[[], Any]] = {
    each.__name__: each for each in (speed, predicted_and_real, own_sheaves, own_allocators, own_slots)
}


def digest(spec: dict[str, Any]) -> str:
    """What a picture was drawn from, whichever version of Vega-Lite drew it."""
    told = {key: value for key, value in spec.items() if key not in ("$schema", "config")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def svg(chart: Any) -> str:
    """A chart as a file of its own, on white, with the digest of what it was drawn from."""
    spec = chart.to_dict()
    drawn = str(vl_convert.vegalite_to_svg(spec | {"background": "white"}))
    return re.sub(r"(\.\d\d)\d+", r"\1", drawn) + f"<!-- {digest(spec)} -->\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(svg(picture()), encoding="utf-8")
