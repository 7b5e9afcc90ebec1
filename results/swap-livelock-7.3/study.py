"""The swap livelock of 2008 on the allocator of 7.3: who takes whose slots, who holds free ones while others fail?

    python results/swap-livelock-7.3/study.py     # a few minutes on a core

Writes outcomes.csv (a row a machine, kernel and min_free_kbytes), ledger.csv (who took slots of whose slabs), stock.csv
(where free bios and sense buffers lay when one could not be allocated) and swap-livelock-7.3.svg.
"""

import itertools
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from fastalloc.batch import LaneResult, advance, run_lanes
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.kernels.alloc.kmem_inspect import free_objects
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import DEPTH_NAMES, KMEM_CACHE_CPU, KMEM_CACHE_NODE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.state import ROLE
from fastalloc.report.statistics import wilson_interval
from fastalloc.scenario import Scenario, load_scenario, with_policies

HERE = Path(__file__).parent
ON_SHEAVES = {"policy.allocator": "7.3"}
KERNELS: dict[str, tuple[str, dict[str, str]]] = {  # name: policy, settings
    "rc8 (2.6.25)": ("rc8", {}),
    "rc8 on 6.12's lists": ("rc8", {"policy.allocator": "cpu-partial"}),
    "rc8 on sheaves": ("rc8", ON_SHEAVES),
    "rc8 on sheaves, rc1's refill": ("rc8", ON_SHEAVES | {"policy.refill": "blocking"}),
    "rc8 on sheaves, sense apart": ("nomerge-sense", ON_SHEAVES),
    "rc8 on sheaves, nothing merged": ("slub_nomerge", ON_SHEAVES),
    "7.3": ("7.3", {}),
}
MACHINES: dict[str, tuple[str, int, dict[str, object]]] = {  # name: scenario, lanes, settings
    "512 MB, 90 s": ("swap-livelock", 96, {}),
    "34 MB, 15 s": ("swap-livelock-34m", 192, {}),
    "34 MB, 8 CPUs": ("swap-livelock-34m", 192, {"machine.cpus": 8}),
    "atomic adversary": ("swap-livelock-34m", 24, {"workload.adversary": "atomic"}),
    "PF_MEMALLOC adversary": ("swap-livelock-34m", 24, {"workload.adversary": "reclaim"}),
}
RESERVES = (8, 16, 32, 48, 64, 96, 128, 192, 256, 512)  # min_free_kbytes
SWEPT = "34 MB, 15 s"
SWEPT_LANES = 48
LOOK_MS = 5  # simulated time between two looks for refusals
LOOKED_AT = ("34 MB, 15 s", "34 MB, 8 CPUs")
LANES_LOOKED_AT = 8
REFUSALS = {"bio": METRIC.bio_waits, "sense": METRIC.sense_fail}
MEASURED = ("livelock_5s", "sense_fail", "bio_waits", "noise_failures", "pages_swapped_out")


def scenario_of(machine: str, kernel: str, reserve: int | None = None) -> Scenario:
    """A machine with the 2008 block layer over that allocator; under `7.3` the kernel as it is."""
    policy, own = KERNELS[kernel]
    name, _, settings = MACHINES[machine]
    base = load_scenario(name)
    chosen = base.variant("rc8") if policy == "rc8" else with_policies(base, [policy]).variant(policy)
    asked = {"machine.min_free_kbytes": reserve} if reserve else {}
    return chosen.with_settings(own | settings | asked | {"run.series_ms": 60_000, "run.max_events": 0})


def outcome(machine: str, kernel: str, reserve: int | None, results: list[LaneResult]) -> dict[str, object]:
    """A row of outcomes.csv: lanes, how many livelocked, how many had a sense failure, and means."""
    metrics = pl.DataFrame(np.array([result.metrics for result in results]), schema=METRIC.names).select(MEASURED)
    return {
        "machine": machine, "kernel": kernel, "min_free_kbytes": reserve, "lanes": len(results),
        "livelocked": int(metrics["livelock_5s"].sum()), "refused_sense": int((metrics["sense_fail"] > 0).sum()),
        **{name: round(float(metrics[name].mean()), 1) for name in MEASURED[1:]},
    }  # fmt: skip


def ledger(machine: str, kernel: str, results: list[LaneResult]) -> pl.DataFrame:
    """Who took objects of whose slabs, all lanes together."""
    total = sum((result.ledger for result in results), np.zeros_like(results[0].ledger))
    where = np.argwhere(total)
    return pl.DataFrame(
        {
            "machine": [machine] * len(where), "kernel": [kernel] * len(where),
            "owner": np.array(WHO.names)[where[:, 0]], "depth": np.array(DEPTH_NAMES)[where[:, 1]],
            "taker": np.array(WHO.names)[where[:, 2]], "objects": total[tuple(where.T)],
        }
    )  # fmt: skip


def stock(lane: Lane, cache: int) -> dict[str, int]:
    """Free objects of a cache: in sheaves of CPUs, in the barn, on slabs and private lists."""
    heap = lane.heap
    found = {"sheaves": 0, "barn": 0}
    for k in heap.kcpu[cache]:
        for which in (KMEM_CACHE_CPU.main, KMEM_CACHE_CPU.spare):
            found["sheaves"] += int(heap.ctl[k[which] + SHEAF.size]) if k[which] > 0 else 0
    h = int(heap.knode[cache, 0, KMEM_CACHE_NODE.full])
    while h > 0:
        found["barn"] += int(heap.ctl[h + SHEAF.size])
        h = int(heap.ctl[h + SHEAF.next])
    return found | {"slabs": int(free_objects(heap, cache)) - sum(found.values())}


def stocks(machine: str, kernel: str) -> list[dict[str, object]]:
    """What lay free where, within LOOK_MS of a refusal."""
    scenario = scenario_of(machine, kernel)
    build = {"seed": scenario.run.seed}
    rows: list[dict[str, object]] = []
    for number in range(LANES_LOOKED_AT):
        lane = build_lane(scenario, number, **build)
        roles = {"bio": int(lane.vm.roles[ROLE.bio]), "sense": int(lane.vm.roles[ROLE.sense])}
        seen = dict.fromkeys(REFUSALS, 0)
        for end in range(LOOK_MS, round(scenario.run.duration_s * 1000) + 1, LOOK_MS):
            lane = advance(number, lane, end * ms.NS_PER_MS, scenario, **build)
            for what, metric in REFUSALS.items():
                now = int(lane.out.metric[metric])
                if now > seen[what]:
                    rows.append({"machine": machine, "kernel": kernel, "refused": what} | stock(lane, roles[what]))
                seen[what] = now
    return rows


def interval(row: dict[str, object], of: str) -> str:
    """A count of lanes with its 95 % interval."""
    low, high = wilson_interval(int(row[of]), int(row["lanes"]))  # type: ignore[call-overload]
    return f"{row[of]} of {row['lanes']} ({low:.0%}-{high:.0%})"


def chart(outcomes: pl.DataFrame) -> alt.Chart:
    """Sense failures by machine, and along the reserve the bios that had to wait and the noise refused."""
    rows = outcomes.with_columns(share=pl.col("refused_sense") / pl.col("lanes"))
    bounds = [wilson_interval(*pair) for pair in rows.select("refused_sense", "lanes").rows()]
    rows = rows.with_columns(low=pl.Series([b[0] for b in bounds]), high=pl.Series([b[1] for b in bounds]))
    color = alt.Color("kernel:N", sort=list(KERNELS), title=None).legend(labelLimit=260)
    machines = rows.filter(pl.col("min_free_kbytes").is_null())
    y = alt.Y("kernel:N", sort=list(KERNELS), title=None).axis(labelLimit=260)
    x = alt.X("share:Q", title="lanes with a sense failure").axis(format="%").scale(domain=[0, 1])
    base = alt.Chart(machines).properties(width=140, height=130)
    bars = base.mark_rule().encode(x, alt.X2("high:Q"), y, color).transform_calculate(share="datum.low")
    points = base.mark_point(filled=True, size=45).encode(x, y, color)
    top = alt.layer(bars, points).facet(alt.Facet("machine:N", sort=list(MACHINES), title=None), columns=5)
    swept = rows.filter(pl.col("min_free_kbytes").is_not_null())
    lines = [
        alt.Chart(swept).mark_line().encode(
            alt.X("min_free_kbytes:Q", title="min_free_kbytes, 34 MB").scale(type="log", base=2),
            alt.Y(f"{field}:Q", title=title).scale(type="symlog"), color,
        ).properties(width=270, height=160)
        for field, title in (
            ("sense_fail", "sense failures, a lane"), ("bio_waits", "bios that wait, a lane"),
            ("noise_failures", "atomic noise refused, a lane"),
        )
    ]  # fmt: skip
    room = {"left": 60, "right": 90, "top": 5, "bottom": 5}  # for names, where a font is wider than was reckoned
    return alt.vconcat(top, alt.hconcat(*lines)).properties(padding=room)


def tables(outcomes: pl.DataFrame, taken: pl.DataFrame, held: pl.DataFrame) -> str:
    """The tables of the docs: outcomes, slots taken, where free objects lay (``make tables`` writes them there)."""
    lines = ["| machine | kernel | livelocked | a sense failure | bios that wait | noise refused | pages out |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for row in outcomes.filter(pl.col("min_free_kbytes").is_null()).iter_rows(named=True):
        shares = " | ".join(interval(row, of) for of in ("livelocked", "refused_sense"))
        means = " | ".join(f"{row[of]:,.0f}" for of in ("bio_waits", "noise_failures", "pages_swapped_out"))
        lines.append(f"| {row['machine']} | {row['kernel']} | {shares} | {means} |")
    lines += ["", "| machine | kernel | of sense's slabs | to bios | sense's objects | out of bios' slabs |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for machine, kernel in itertools.product(list(MACHINES)[:3], KERNELS):
        part = taken.filter(machine=machine, kernel=kernel)
        asked = ({"owner": "sense"}, {"owner": "sense", "taker": "bio"}, {"taker": "sense"})
        counts = [part.filter(**who)["objects"].sum() for who in (*asked, {"owner": "bio", "taker": "sense"})]
        lines.append(f"| {machine} | {kernel} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    lines += ["", "| machine | kernel | refused | times | in sheaves | in the barn | on slabs | some elsewhere |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|")
    times = pl.col("times")
    means = held.group_by("machine", "kernel", "refused", maintain_order=True).agg(
        times.sum(), (pl.col("sheaves", "barn", "slabs") * times).sum() / times.sum(),
        elsewhere=times.filter(pl.col("sheaves") + pl.col("barn") > 0).sum() / times.sum(),
    )  # fmt: skip
    for row in means.iter_rows(named=True):
        lines.append(
            f"| {row['machine']} | {row['kernel']} | {row['refused']} | {row['times']:,} | {row['sheaves']:.1f} | "
            f"{row['barn']:.1f} | {row['slabs']:.1f} | {row['elsewhere']:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all, write tables and chart."""
    outcomes, ledgers, held = [], [], []
    for machine, kernel in itertools.product(MACHINES, KERNELS):
        scenario = scenario_of(machine, kernel)
        results = list(run_lanes(scenario, range(MACHINES[machine][1]), seed=scenario.run.seed, threads=2))
        outcomes.append(outcome(machine, kernel, None, results))
        ledgers.append(ledger(machine, kernel, results))
    for reserve, kernel in itertools.product(RESERVES, KERNELS):
        scenario = scenario_of(SWEPT, kernel, reserve)
        results = list(run_lanes(scenario, range(SWEPT_LANES), seed=scenario.run.seed, threads=2))
        outcomes.append(outcome(SWEPT, kernel, reserve, results))
    for machine, kernel in itertools.product(LOOKED_AT, KERNELS):
        held += stocks(machine, kernel)
    found, taken = pl.DataFrame(outcomes, infer_schema_length=None), pl.concat(ledgers)
    looks = pl.DataFrame(held, infer_schema_length=None)
    found.write_csv(HERE / "outcomes.csv")
    taken.write_csv(HERE / "ledger.csv")
    counted = looks.group_by(looks.columns, maintain_order=True).agg(pl.len().alias("times"))
    counted.write_csv(HERE / "stock.csv")
    chart(found).save(HERE / "swap-livelock-7.3.svg")


if __name__ == "__main__":
    main()
