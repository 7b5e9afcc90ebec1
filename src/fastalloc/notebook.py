"""What a notebook shows of a dataset: a table and a chart; and its tables as frames."""

from html import escape
from typing import TYPE_CHECKING

import polars as pl

from fastalloc.plural import plural

if TYPE_CHECKING:
    from fastalloc.store import Dataset

LANES = 24  # drawn of a variant


def dataset_words(dataset: "Dataset") -> str:
    """A dataset in a line."""
    manifest = dataset.manifest
    names = [variant["name"] for variant in manifest["variants"]]
    if manifest.get("kind") == "sweep":
        points = f"{manifest['sweep']['points']:,} points" if "points" in manifest["sweep"] else "points"
        return f"Dataset {dataset.path}: sweep of {points} ({manifest['status']})"
    of = manifest["scenario"]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    lanes = f"{plural(manifest['lanes'], 'lane')} of {of['run']['duration_s']:g} s"
    what = f"{of['name']}, {lanes} under {'each of ' if len(names) > 1 else ''}{shown}"
    return f"Dataset {dataset.path}: {what} ({manifest['status']})"


def verdict_frame(dataset: "Dataset") -> pl.DataFrame:
    """A row a variant: the fields of ``report.verdict.Verdict``."""
    from fastalloc.report.verdict import verdict_rows, verdicts

    return pl.DataFrame(verdict_rows(verdicts(dataset)))


def board_frame(dataset: "Dataset") -> pl.DataFrame:
    """A row a policy against the first on the same lanes: the fields of ``report.board.Row``, means as ``mean_*``."""
    from fastalloc.report.board import board, board_rows

    rows = [
        {key: value for key, value in row.items() if key != "means"}
        | {f"mean_{key}": value for key, value in row["means"].items()}
        for row in board_rows(board(dataset))
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def point_frame(dataset: "Dataset") -> pl.DataFrame:
    """A row a point of a sweep of machines, see ``report.sweep.point_table``; of traces the figures of a replay."""
    from fastalloc.report.sweep import is_of_traces, point_rows, point_table

    return pl.DataFrame(point_rows(dataset)) if is_of_traces(dataset) else point_table(dataset)


def dataset_html(dataset: "Dataset") -> str:
    """Table and chart of a run, table of a sweep."""
    from fastalloc.report.sweep import is_sweep

    if is_sweep(dataset):
        return table_html(point_frame(dataset).head(40), dataset_words(dataset))
    from fastalloc.report.terminal import verdict_columns
    from fastalloc.report.verdict import verdicts

    found = verdicts(dataset)
    columns = [column for column in verdict_columns(found) if column.rank < 5]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("variant", *(column.heading for column in columns)))
    rows = "".join(
        f"<tr><th>{escape(v.variant)}</th>{''.join(f'<td>{escape(c.cell(v))}</td>' for c in columns)}</tr>"
        for v in found
    )
    said = "".join(f"<li><b>{escape(v.variant)}</b>: {escape(v.sentence)}</li>" for v in found)
    words = escape(dataset_words(dataset))
    return f"<p>{words}</p><table><tr>{head}</tr>{rows}</table><ul>{said}</ul>{strips_svg(dataset)}"


def strips_svg(dataset: "Dataset") -> str:
    """A strip a machine over time, red while it is livelocked, a panel a variant."""
    import altair as alt

    from fastalloc.report.charts import COLOURS
    from fastalloc.report.selection import livelock_spans

    runs = dataset.runs.filter(pl.col("lane") < LANES).select("variant", "lane", "sim_ms").collect()
    calm = [{"variant": v, "lane": n, "begin": 0, "end": ms / 1000} for v, n, ms in runs.rows()]
    locked = [{"variant": v, "lane": n, "begin": a, "end": b} for v, n, a, b in livelock_spans(dataset, LANES).rows()]
    names = [variant["name"] for variant in dataset.manifest["variants"]]
    panels = []
    for name in names[:6]:
        machines = f"{len({row['lane'] for row in calm})} machines" if name == names[0] else None
        layers = [
            alt.Chart(alt.Data(values=[row for row in rows if row["variant"] == name]), width=200, height=120)
            .mark_bar(color=colour, opacity=opacity)
            .encode(
                x=alt.X("begin:Q", title="seconds; red: livelocked"),
                x2="end:Q",
                y=alt.Y("lane:O", axis=alt.Axis(labels=False, ticks=False, title=machines)),
            )
            for rows, colour, opacity in ((calm, COLOURS["calm"], 0.28), (locked, COLOURS["alarm"], 1.0))
        ]
        panels.append(alt.layer(*layers).properties(title=name))
    import vl_convert

    return str(vl_convert.vegalite_to_svg(alt.hconcat(*panels).to_dict()))


def table_html(frame: pl.DataFrame, words: str) -> str:
    """A frame below a line of words."""
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_rows=40, tbl_cols=12):
        return f"<p>{words}</p>{frame._repr_html_()}"
