"""Once in how many machine-days does the livelock come? Two machines, the reserve, GFP_ATOMIC traffic, eight kernels.

    python results/rare/study.py FOLDER [MINUTES]     # FOLDER keeps the lanes; the same command goes on there

Runs plain lanes until their first livelock, in rounds; rc8 as the machine boots gets most of them. When the minutes are
over it writes rates.csv (a row a cell) and rates.svg.
"""

import itertools
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import altair as alt
import polars as pl

from fastalloc.model_digest import model_digest
from fastalloc.rare.events import Event
from fastalloc.rare.rare import Budget, Rare, rare
from fastalloc.report.hazard import DAY_S
from fastalloc.scenario import Scenario, load_scenario, with_policies

HERE = Path(__file__).parent
LIVELOCK = Event("livelock")
REMEDIES = ("fix", "slub_nomerge", "ctor", "free_list-4", "sense-pool", "short-sense", "prealloc")
MACHINES = {"512 MB": ("swap-livelock", 2866), "256 MB": ("hugh-256m", 2048)}  # with the min_free_kbytes they boot with
RESERVES = (64, 96, 128, 192, 256, 512)
LOW = 128  # where rc8 livelocks
ROUND = {"256 MB": 4, "512 MB": 32}  # lanes: the machine of four copiers is seven times as slow to simulate
STARTUP_S, LANE_S = 40.0, 160.0
WIDTH = 4.0  # a cell is done when its interval is so narrow
MOST_ROUNDS = 1000


def burst(pages: int, every_ms: int, life_ms: int) -> dict[str, object]:
    return {"workload.bursts": [{"pages": pages, "every_ms": every_ms, "spread_ms": 1.0, "life_ms": life_ms}]}


TRAFFIC: dict[str, dict[str, object]] = {  # beside the preset's own: 50 pages a second of 2 ms each, or 200 a second
    "x 10": {"workload.atomic_pages_per_s": 500},
    "x 100": {"workload.atomic_pages_per_s": 5000},
    "64 pages / 100 ms": burst(64, 100, 20),
    "256 pages / 400 ms": burst(256, 400, 20),
    "1024 pages / 1600 ms": burst(1024, 1600, 20),
}


class Cell(NamedTuple):
    """One machine under one kernel."""

    machine: str
    reserve: int  # min_free_kbytes
    traffic: str
    policy: str

    @property
    def folder(self) -> str:
        return "-".join(map(str, self)).replace(" ", "").replace("/", "")

    def scenario(self) -> Scenario:
        base = load_scenario(MACHINES[self.machine][0])
        own = base.variant("rc8") if self.policy == "rc8" else with_policies(base, [self.policy]).variant(self.policy)
        settings = {"machine.min_free_kbytes": self.reserve, "run.duration_s": LANE_S, "run.seed": 1}
        return own.with_settings(settings | TRAFFIC.get(self.traffic, {}))


def cells() -> list[Cell]:
    """rc8 along the reserve and under traffic; the remedies where rc8 livelocks and, on 512 MB, as it boots."""
    found = []
    for machine, (_, boots_with) in MACHINES.items():
        found += [Cell(machine, reserve, "own", "rc8") for reserve in (boots_with, *RESERVES)]
        found += [Cell(machine, reserve, traffic, "rc8") for reserve in (LOW, boots_with) for traffic in TRAFFIC]
    for machine, policy in itertools.product(MACHINES, REMEDIES):
        found += [Cell(machine, reserve, "own", policy) for reserve in (64, LOW)]
    boots_with = MACHINES["512 MB"][1]
    for traffic, policy in itertools.product(("own", "1024 pages / 1600 ms"), REMEDIES):
        found.append(Cell("512 MB", boots_with, traffic, policy))
    return found


def lanes_by(cell: Cell, rounds: int) -> int:
    """Lanes of a cell after so many rounds."""
    boots = cell.policy == "rc8" and cell.traffic == "own" and cell.reserve == MACHINES[cell.machine][1]
    return rounds * ROUND[cell.machine] * (4 if boots else 2 if cell.policy == "rc8" else 1)


def run(cell: Cell, folder: Path, lanes: int) -> Rare:
    """At least so many lanes of a cell, or as many as its interval needs."""
    out = str(folder / cell.folder)
    return rare(cell.scenario(), LIVELOCK, startup_s=STARTUP_S, budget=Budget(lanes, width=WIDTH), out=out, threads=1)


def row(cell: Cell, found: Rare) -> dict[str, object]:
    """A row of rates.csv. Machine-days; where none was seen ``low`` is the bound."""
    hazard = found.hazard
    share, low, high = hazard.startup_share
    told: dict[str, object] = {
        **cell._asdict(),
        "lanes": hazard.lanes,
        "startup_events": hazard.startup_events,
        "startup_share": round(share, 5), "startup_low": round(low, 5), "startup_high": round(high, 5),
    }  # fmt: skip
    steady = hazard.steady
    if steady is None:
        return told
    told |= {"events": steady.events, "machine_days": round(steady.exposure / DAY_S, 5), "p_steady": hazard.steady_p}
    limits: dict[str, float | None] = {"days": None, "low": None, "high": None}
    if hazard.is_steady:
        limits["low"] = 1 / steady.high / DAY_S
        if steady.events:
            limits |= {"days": 1 / steady.rate / DAY_S, "high": 1 / steady.low / DAY_S}
    return told | {name: value if value is None else float(f"{value:.4g}") for name, value in limits.items()}


PANELS = (  # what it shows, which cells, along what, and what stands side by side in colours
    ("rc8 along the reserve", {"traffic": "own", "policy": "rc8"}, "reserve", None),
    ("rc8 under traffic", {"policy": "rc8"}, "traffic", "at"),
    ("Kernels", {"traffic": "own"}, "policy", "at"),
)
TITLES = {"reserve": "min_free_kbytes, kB", "traffic": "GFP_ATOMIC traffic", "policy": None}


def shown_cells(table: pl.DataFrame, which: dict[str, str], along: str) -> pl.DataFrame:
    """The cells of a panel that have a figure. ``at``: the reserve, ``as it boots`` where it is that of the machine."""
    boots = pl.col("reserve") == pl.col("machine").replace_strict({name: kb for name, (_, kb) in MACHINES.items()})
    told = table.filter(pl.col("low").is_not_null(), **which).with_columns(
        at=pl.when(boots).then(pl.lit("as it boots")).otherwise(pl.format("{} kB", "reserve")),
        shown=pl.coalesce("days", "low"),
        kind=pl.when(pl.col("days").is_null()).then(pl.lit("longer than")).otherwise(pl.lit("seen")),
    )
    compared = {"reserve": RESERVES, "traffic": (LOW,), "policy": (64, LOW)}[along]
    return told.filter(boots | pl.col("reserve").is_in(compared))


def chart(table: pl.DataFrame) -> alt.VConcatChart:
    """Machine-days to a livelock along the reserve, under traffic and under each kernel, each cell in its own place;
    triangles are bounds: it takes longer."""
    y = alt.Y("shown:Q", title="machine-days to a livelock").scale(type="log")
    shape = alt.Shape("kind:N", title=None).scale(domain=["seen", "longer than"], range=["circle", "triangle-up"])
    orders = {"reserve": "ascending", "traffic": ["own", *TRAFFIC], "policy": ["rc8", *REMEDIES]}
    panels = []
    for title, which, along, beside in PANELS:
        base = alt.Chart(shown_cells(table, which, along))
        axis = alt.Axis(labelAngle=0 if along == "reserve" else -35)
        drawn = {"x": alt.X(f"{along}:O", title=TITLES[along], sort=orders[along], axis=axis)}
        if beside:
            order = ["64 kB", "128 kB", "as it boots"]
            drawn["xOffset"] = alt.XOffset(f"{beside}:N", sort=order)
            colours = alt.Scale(domain=order, range=["#d64545", "#2b7bba", "#2f9e6e"])
            drawn["color"] = alt.Color(f"{beside}:N", title="min_free_kbytes", scale=colours)
        points = base.mark_point(filled=True, size=55, opacity=1, color="#5b6573").encode(y=y, shape=shape, **drawn)
        bars = (
            base.transform_filter("datum.high != null")
            .mark_rule(color="#5b6573")
            .encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), **drawn)
        )
        panel = alt.layer(bars, points).properties(width=320, height=180).facet(alt.Facet("machine:N").title(None))
        panels.append(panel.properties(title=title))
    return alt.vconcat(*panels)


def words(row: dict[str, object]) -> str:
    """Machine-days to a livelock, or the bound."""
    if row["events"] is None or not row["machine_days"]:
        return "all lost in the start-up"
    if row["low"] is None:
        return f"not steady ({row['events']} in {row['machine_days']:.2g})"
    if row["days"] is None:
        return f"> {row['low']:.2g}"
    return f"{row['days']:.2g} ({row['low']:.2g} to {row['high']:.2g})"


def tables(table: pl.DataFrame) -> str:
    """The tables of the docs."""
    lines = ["| machine | min_free_kbytes | traffic | lost in the start-up | machine-days looked at | to a livelock |"]
    lines.append("|---|---:|---|---:|---:|---:|")
    for each in table.filter(policy="rc8").iter_rows(named=True):
        share = " to ".join(f"{100 * each[name]:.3g}" for name in ("startup_low", "startup_high"))
        lines.append(
            f"| {each['machine']} | {each['reserve']:,} | {each['traffic']} | {each['startup_events']} of "
            f"{each['lanes']} ({share} %) | {each['machine_days'] or 0:.3g} | {words(each)} |"
        )
    places = table.filter(pl.col("policy") != "rc8").select("machine", "reserve", "traffic").unique(maintain_order=True)
    names = [f"{machine}, {reserve}, {traffic}" for machine, reserve, traffic in places.iter_rows()]
    if not names:
        return "\n".join(lines)
    lines += ["", f"| kernel | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for policy in ("rc8", *REMEDIES):
        found = []
        for machine, reserve, traffic in places.iter_rows():
            cell = table.filter(policy=policy, machine=machine, reserve=reserve, traffic=traffic).to_dicts()
            lost = (
                f"; {cell[0]['startup_events']} of {cell[0]['lanes']} at start"
                if cell and cell[0]["startup_events"]
                else ""
            )
            found.append(words(cell[0]) + lost if cell else "")
        lines.append(f"| {policy} | {' | '.join(found)} |")
    return "\n".join(lines)


def main(folder: Path, minutes: float) -> None:
    """Run rounds until the time is over, then write what there is."""
    begun, found = time.monotonic(), {}
    for rounds in range(1, MOST_ROUNDS + 1):
        for cell in cells():
            over = time.monotonic() - begun > 60 * minutes
            if over and (cell in found or not (folder / cell.folder).exists()):
                continue
            if cell in found and found[cell].stopped == "width":
                continue
            found[cell] = run(cell, folder, 1 if over else lanes_by(cell, rounds))
            print(f"{time.monotonic() - begun:7.0f} s {' '.join(map(str, cell))}: {row(cell, found[cell])}", flush=True)
        if time.monotonic() - begun > 60 * minutes:
            break
    table = pl.DataFrame([row(cell, found[cell]) for cell in cells() if cell in found], infer_schema_length=None)
    table = table.with_columns(model=pl.lit(model_digest()[:12]))
    table.write_csv(HERE / "rates.csv")
    chart(table).save(HERE / "rates.svg")
    print(f"{table['machine_days'].sum():.2f} machine-days after the start-up, {table['lanes'].sum():,} lanes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else math.inf)
