"""How often the interval of `fastalloc reserve` holds the share, on machines and bursts that differ.

    python results/reserve/coverage.py      # six minutes on a core

LANES lanes of each set-up run once; their share is the truth. Then a few of them are drawn, again and again, and what
their interval says is compared with it. Writes coverage.csv: a row a set-up and number of lanes drawn.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from fastalloc.batch import run_lanes
from fastalloc.batch.pressed import pressed
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.scenario import Machine, Scenario
from fastalloc.scenario.models import Burst
from fastalloc.sweep.share import interval, share_of_any_lanes

HERE = Path(__file__).parent
LANES, DRAWN, REPETITIONS = 300, (3, 6, 16, 64), 2000
ANY = 200  # repetitions of the ends that hold for lanes of any kind, which take longer
IN_PLAY = 14_000  # pages of a zone


class SetUp(NamedTuple):
    """A machine and its bursts. Zones as (name, pages, CMA pages)."""

    kernel: str
    min_free_kbytes: int
    zones: tuple[tuple[str, int, int], ...]
    burst: dict[str, float]
    machine: dict[str, Any] = {}  # noqa: RUF012 -- read alone
    seconds: float = 6.0


NORMAL, DMA = ("Normal", 400_000, 0), ("DMA", 3000, 0)
CMA = (("DMA32", 150_000, 60_000), ("Normal", 100_000, 30_000))
SET_UPS = {
    "HighMem": SetUp("2.6.25", 1777, (DMA, ("Normal", 200_000, 0), ("HighMem", 50_000, 0)),
                     {"pages": 1500, "every_ms": 50, "spread_ms": 1}, {"bits": 32}),
    "DMA32": SetUp("3.2", 483, (DMA, ("DMA32", 200_000, 0)), {"pages": 3000, "every_ms": 60, "spread_ms": 1}),
    "objects": SetUp("4.6", 234, (("Normal", 100_000, 0),),
                     {"objects": 8000, "object_bytes": 512, "every_ms": 80, "spread_ms": 5, "life_ms": 30}),
    "factor": SetUp("6.1", 1580, (("DMA32", 100_000, 0), ("Normal", 100_000, 0)),
                    {"pages": 4000, "every_ms": 211, "spread_ms": 0, "life_ms": 60},
                    {"watermark_scale_factor": 100}, 8.0),
    "kinds": SetUp("6.12", 1188, (NORMAL,), {"pages": 2500, "every_ms": 80, "spread_ms": 1}),
    "CMA": SetUp("6.18", 46, (DMA, *CMA), {"pages": 1500, "every_ms": 50, "spread_ms": 1}, {"cpus": 2}),
    "Movable": SetUp("7.3", 3850, (("DMA32", 80_000, 0), ("Normal", 120_000, 0), ("Movable", 50_000, 0)),
                     {"objects": 3000, "object_bytes": 2048, "every_ms": 60, "spread_ms": 10, "life_ms": 20}),
    "64 KB": SetUp("6.12", 462, (("DMA", 30_000, 0), ("Normal", 100_000, 0)),
                   {"pages": 600, "every_ms": 40, "spread_ms": 1, "cpus": 4}, {"page_kb": 64, "cpus": 4}),
    "small": SetUp("6.1", 14, (("Normal", 150_000, 0),), {"pages": 300, "every_ms": 9, "spread_ms": 3, "life_ms": 30}),
    "rare": SetUp("6.18", 8132, CMA, {"pages": 4000, "every_ms": 80, "spread_ms": 1}),
    "rare objects": SetUp("2.6.25", 4898, (DMA, ("Normal", 200_000, 0)),
                          {"objects": 4000, "object_bytes": 1024, "every_ms": 100, "spread_ms": 2, "life_ms": 10}),
    "large": SetUp("7.3", 12_000, (("Normal", 300_000, 0),),
                   {"pages": 6000, "every_ms": 400, "spread_ms": 0, "life_ms": 100}, {"cpus": 2}),
    "often": SetUp("6.12", 13_500, (NORMAL,),
                   {"pages": 6000, "every_ms": 297, "spread_ms": 0, "life_ms": 10}, {}, 16.0),
    "two zones": SetUp("4.6", 4000, (("DMA32", 120_000, 80_000), ("Normal", 60_000, 0), ("Movable", 60_000, 0)),
                       {"pages": 800, "every_ms": 31, "spread_ms": 4, "life_ms": 15}, {"cpus": 2}),
}  # fmt: skip


def scenario(own: SetUp) -> Scenario:
    """One task fills the pages in play within half of the time, and goes on."""
    marks = {"min": 0, "low": 0, "high": 0, "protection": [0] * len(own.zones), "pcp_high": 0, "pcp_batch": 1}
    zones = [marks | {"name": name, "present": pages, "cma": cma} for name, pages, cma in own.zones]
    data = {"name": "m", "kernel": own.kernel, "min_free_kbytes": own.min_free_kbytes, "zones": zones, "cpus": 1}
    made, _ = pressed(Machine.model_validate(data | own.machine), [Burst.model_validate(own.burst)], IN_PLAY)
    total = sum(made.machine.free_pages.values())
    load = {"workload.writers": 1, "workload.writer_pages": 2 * total, "workload.bursts": [own.burst]}
    return made.with_settings(
        load | {"costs.fault_page": int(own.seconds * 5e8 / total), "run.duration_s": own.seconds, "run.seed": 1}
    )


def main() -> None:
    rows = []
    random = np.random.default_rng(20)
    counted = ("burst_refused", "burst_requests", "bursts_refused", "bursts")
    columns = [getattr(METRIC, name) for name in counted]
    for name, own in SET_UPS.items():
        found = [lane.metrics[columns] for lane in run_lanes(scenario(own), range(LANES), seed=17, threads=1)]
        lanes = np.array(found, np.int64)
        share = lanes[:, 0].sum() / lanes[:, 1].sum()
        each = lanes[:, 0] / lanes[:, 1]
        for drawn in DRAWN:
            held, widths, of_any = 0, [], 0
            for repetition in range(REPETITIONS):
                some = lanes[random.integers(0, LANES, drawn)]
                refused, requests = some[:, 0].tolist(), some[:, 1].tolist()
                low, high = interval(refused, requests, list(map(tuple, some[:, 2:].tolist())))
                held += low <= share <= high
                widths.append((high - low) / share)
                if repetition < ANY:
                    low, high = share_of_any_lanes(refused, requests)
                    of_any += low <= share <= high
            rows.append(
                {
                    "set_up": name, "kernel": own.kernel, "share": share, "lanes_refused": float((each > 0).mean()),
                    "variation": float(each.std() / share), "lanes": drawn, "held": held / REPETITIONS,
                    "width": float(np.median(widths)), "held_any": of_any / ANY,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    pl.DataFrame(rows).write_csv(HERE / "coverage.csv", float_precision=4)


if __name__ == "__main__":
    main()
