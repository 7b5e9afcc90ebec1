"""Pictures of the documentation, made from the files in results/ when it is built."""

from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert
from benchmarks.tables import number

RESULTS = Path(__file__).parents[1] / "results"


def speeds() -> pl.DataFrame:
    """Work, value and its label: how many times as fast as real time each load of two CPUs runs on one thread."""
    rows = latest("closed_loop").filter((pl.col("unit") == "x real time") & pl.col("work").str.contains(", 2 CPUs"))
    rows = rows.filter(~pl.col("work").str.contains("65536|8192"))  # memory that the load does not fill
    return rows.select("work", "value", label=pl.col("value").map_elements(number, pl.String)).sort("value")


def speed() -> str:
    """Simulated seconds a second, a load a row."""
    rows = speeds()
    chart = alt.Chart(alt.Data(values=rows.to_dicts()), width=420, height=alt.Step(26)).encode(
        x=alt.X("value:Q", title="simulated seconds a second (log scale)", scale=alt.Scale(type="log", domainMin=100)),
        y=alt.Y("work:N", title=None, sort="-x", axis=alt.Axis(labelLimit=320)),
    )
    points = chart.mark_point(filled=True, size=90, color="#2b7bba")
    return _svg(points + chart.mark_text(align="left", dx=9).encode(text="label:N"))


def predicted_and_real() -> str:
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
    return _svg(alt.layer(even.encode(x=x, y=y), dots.encode(x=x, y=y, color=colour)))


def latest(name: str) -> pl.DataFrame:
    """The rows of the last run of a benchmark (results/benchmarks/)."""
    table = pl.read_parquet(RESULTS / "benchmarks" / f"{name}.parquet")
    return table.filter(pl.col("at") == pl.col("at").max())


def _svg(chart: Any) -> str:
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))
