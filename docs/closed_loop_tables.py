"""Chart and tables of docs/closed-loop-*.md: predictions of runs of the real kernel. ``make tables`` runs this.

Reads results/closed-loop/clean.json, what ``fastalloc verify FOLDER --json`` prints for a folder of clean runs,
rules.json, the same runs with one rule at a time left out: medians over the runs of one CPU, and seeds.json, many seeds
of four machines.
"""

import json
from pathlib import Path
from typing import Any

import altair as alt
from benchmarks.tables import replaced

PAGE = Path(__file__).with_name("closed-loop-truth.md")
STARTS = Path(__file__).with_name("closed-loop-starts.md")
DRAWN = "one CPU, starts drawn"  # a table of that page
SEEDS = Path(__file__).with_name("closed-loop-seeds.md")
RESULTS = Path(__file__).parent.parent / "results" / "closed-loop"
TITLES = {
    "pswpout": "pages swapped out",
    "dispw": "commands",
    "pages_per_cmd": "pages a command",
    "wb_max": "most pages under writeback",
    "wb_mean": "mean pages under writeback",
    "bio_slabs_max": "most slabs of bios",
    "allocstall": "direct reclaims",
    "scan_per_out": "pages scanned a page swapped out",
    "first_swap_s": "time of the first swap-out",
    "kwakes": "kswapd woken",
    "rqwaits": "waits for a request",
    "bwaits": "sleeps in the bio mempool",
    "tpages": "tmpfs pages written",
    "sensef": "sense failures",
}
OF_SEEDS = {
    "pages_out": "pages swapped out",
    "commands": "commands",
    "pages_a_command": "pages a command",
    "one_page": "commands of one page",
    "bio_sleeps": "sleeps in the bio mempool",
    "direct_reclaims": "direct reclaims",
    "writeback_most": "most pages under writeback",
    "writeback_mean": "mean pages under writeback",
}
PANELS = 5  # a row of the chart
MOVED = ("pswpout", "pages_per_cmd", "wb_mean", "allocstall", "first_swap_s", "rqwaits", "bwaits", "tpages")


def views(views: list[dict[str, Any]]) -> str:
    """A table a view: figure, quantiles of predicted / real over its runs, how many are within."""
    parts = []
    for view in views:
        low, high = (f"{100 * bound:.0f}" for bound in view["kernel_interval"])
        parts.append(
            f"**{view['view']}**: {view['runs']} runs, {view['lanes']} lanes. {view['livelocked']} of "
            f"{view['lanes_without']} lanes lock up where the kernel ran through; its own livelocks: "
            f"{view['kernel_livelocked']} of {view['runs']} runs (95 % interval {low} to {high} %). "
            f"{view['never_swapped']} lanes never swap; {view['out_of_memory']} run out of memory where the kernel had "
            f"enough.\n"
        )
        lines = ["| predicted / real | runs | 10 % | median | 90 % | within |", "|---|---:|---:|---:|---:|---:|"]
        for spread in (spread for spread in view["spreads"] if spread["runs"]):
            within = f"{spread['within']} of {spread['judged']}" if spread["judged"] else "told only"
            quantiles = " | ".join(quantile(spread, name, bool(spread["judged"])) for name in ("q10", "median", "q90"))
            lines.append(f"| {TITLES[spread['figure']]} | {spread['runs']} | {quantiles} | {within} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def quantile(spread: dict[str, Any], name: str, judged: bool) -> str:
    """A quantile of predicted / real, of a judged figure with the range that chance gives."""
    if not judged or spread[f"chance_{name}"] is None:
        return f"{spread[name]:.2f}"
    low, high = spread[f"chance_{name}"]
    return f"{spread[name]:.2f} ({low:.2f}–{high:.2f})"


def rules(record: dict[str, Any]) -> str:
    """A table: a row for each rule that is left out, with the median of predicted / real of each figure."""
    heads = ["without", *(TITLES[name] for name in MOVED), "lanes locked up", "out of memory"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in record["rules"]:
        values = [f"{row['medians'][name]:.2f}" for name in MOVED]
        lines.append(f"| {row['without']} | {' | '.join(values)} | {row['livelocked']} | {row['out_of_memory']} |")
    return "\n".join(lines) + "\n"


def seeds(record: dict[str, Any]) -> str:
    """A table a machine: 10 %, 50 % and 90 % of each figure, of its runs and of its lanes, and the ratio of medians."""
    parts = []
    for machine in record["machines"]:
        parts.append(
            f"**{machine['machine']} an instruction**: {machine['runs']} runs, of which {machine['runs_locked']} lock "
            f"up, {machine['lanes']} lanes, of which {machine['lanes_locked']}.\n"
        )
        lines = [
            "| figure | runs: 10, 50, 90 % | lanes: 10, 50, 90 % | lanes / runs, medians |",
            "|---|---:|---:|---:|",
        ]
        for name, title in OF_SEEDS.items():
            told = [" ".join(f"{value:,.0f}" for value in machine[name][of]) for of in ("runs", "lanes")]
            ratio = machine[name]["lanes"][1] / machine[name]["runs"][1]
            lines.append(f"| {title} | {told[0]} | {told[1]} | {ratio:.2f} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def at_once(record: dict[str, Any]) -> str:
    """A table: who locks up of CPUs that run nearly at once, and of lanes with a core for each CPU."""
    lines = ["| kernel | CPU | runs that lock up | lanes that lock up |", "|---|---|---:|---:|"]
    for row in record["at_once"]:
        for speed in ("fast", "slow"):
            one = row[speed]
            runs = f"{one['runs_locked']} of {one['runs']}" if one["runs"] else "none made"
            kernel = "the fix" if row["fix"] else "rc8"
            lines.append(f"| {kernel} | {speed} | {runs} | {one['lanes_locked']} of {one['lanes']} |")
    return "\n".join(lines) + "\n"


def chart(record: dict[str, Any]) -> alt.Chart | alt.ConcatChart:
    """Predicted against real, a point a run and judged figure with the range of its lanes; the line is equality."""
    panels = []
    judged = list(dict.fromkeys(f["name"] for run in record["runs"] for f in run["figures"] if f["within"] is not None))
    for name in judged:
        points = [
            {"run": run["run"], "view": run["view"]} | figure
            for run in record["runs"]
            for figure in run["figures"]
            if figure["name"] == name and figure["within"] is not None and min(figure["real"], figure["low"]) > 0
        ]
        edges = [value for point in points for value in (point["real"], point["median"])]
        edges = [min(edges) / 1.2, max(edges) * 1.2]
        scale = alt.Scale(type="log", domain=edges, nice=False)
        x = alt.X("real:Q", scale=scale, axis=alt.Axis(tickCount=4))
        line = alt.Chart(alt.Data(values=[{"at": min(edges)}, {"at": max(edges)}]))
        equal = line.mark_line(color="#999999", strokeWidth=1).encode(
            x=alt.X("at:Q", scale=scale, title="real", axis=alt.Axis(tickCount=4)),
            y=alt.Y("at:Q", scale=scale, title="predicted", axis=alt.Axis(tickCount=4)),
        )
        base = alt.Chart(alt.Data(values=points))
        spans = base.mark_rule(opacity=0.4, clip=True).encode(
            x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color="view:N"
        )
        dots = base.mark_circle(size=28, opacity=0.8).encode(
            x=x, y=alt.Y("median:Q", scale=scale), color=alt.Color("view:N", title=None)
        )
        panels.append(alt.layer(equal, spans, dots).properties(width=150, height=150, title=TITLES[name]))
    return alt.concat(*panels, columns=PANELS).configure_title(fontSize=11)


def main() -> None:
    """Write the chart and the tables."""
    record = json.loads((RESULTS / "clean.json").read_text(encoding="utf-8"))["closed_loop"]
    chart(record).save(RESULTS / "clean.svg")
    text = PAGE.read_text(encoding="utf-8")
    text = replaced(text, "closed-loop", views([view for view in record["views"] if view["view"] != DRAWN]))
    left_out = json.loads((RESULTS / "rules.json").read_text(encoding="utf-8"))
    PAGE.write_text(replaced(text, "rules", rules(left_out)), encoding="utf-8")
    drawn = views([view for view in record["views"] if view["view"] == DRAWN])
    STARTS.write_text(replaced(STARTS.read_text(encoding="utf-8"), "drawn", drawn), encoding="utf-8")
    many = json.loads((RESULTS / "seeds.json").read_text(encoding="utf-8"))
    text = replaced(SEEDS.read_text(encoding="utf-8"), "seeds", seeds(many))
    SEEDS.write_text(replaced(text, "at once", at_once(many)), encoding="utf-8")


if __name__ == "__main__":
    main()
