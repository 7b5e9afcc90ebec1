"""``python -m tests.closed_loop.soak``: lanes of many loads, one after the other, until 10⁹ CPU-ticks are simulated.

A CPU-tick is a jiffy of one CPU (``METRIC.cpu_ticks``), whether something was due in it or not: what is idle is jumped
over, so each load tells besides how many objects it took and gave, pages it copied and swapped, and ticks that were
checked. Each second slice of LOOK_S is run with every tick checked, as under --debug, until CHECKED ticks of a lane
are; the guards of objects run always. Ends with code 1 at the first lane that breaks, and names it.
"""

import argparse
import json
import sys
import time
from itertools import count, cycle
from pathlib import Path
from typing import Any

from fastalloc.batch import check_sound, result_of
from fastalloc.batch.lane import build_lane
from fastalloc.errors import LaneError
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.machine.run import run_lane
from tests.closed_loop.small import OWN_CORES, small

RESULT = Path(__file__).parents[2] / "results" / "soak.json"
TICKS = 10**9
LOOK_S = 10
CHECKED = 10_000  # ticks of a lane
FAST = {"disk.bytes_per_second": 50_000_000, "disk.iops": 500}
HOSTS = {"policy.host_sense_bytes": [18, 96, 260], "policy.host_pools": "host"}
BURSTS = [{"pages": 64, "every_ms": 50.0}, {"objects": 200, "object_bytes": 512, "every_ms": 20.0}]
# Variant, settings, seconds of a lane; each allocator, full and livelocked queues, few and many CPUs.
LOADS: dict[str, tuple[str, dict[str, Any], int]] = {
    "slub, full load": ("fix", OWN_CORES | FAST, 600),
    "slub, livelocked": ("rc8", OWN_CORES, 7200),
    "slub, livelocked, 64 CPUs": ("rc8", OWN_CORES | {"machine.cpus": 64}, 7200),
    "slub, further hosts and bursts": ("fix", HOSTS | {"workload.bursts": BURSTS}, 300),
    "cpu-partial": ("fix", OWN_CORES | FAST | {"policy.allocator": "cpu-partial"}, 600),
    "sheaves of 6.18": ("fix", OWN_CORES | FAST | {"policy.allocator": "sheaves"}, 600),
    "sheaves of 7.3": ("fix", OWN_CORES | FAST | {"policy.allocator": "7.3", "policy.slub_layout": "7.3"}, 600),
    "slab": ("fix", OWN_CORES | FAST | {"policy.allocator": "slab"}, 600),
    "slob": ("fix", OWN_CORES | FAST | {"policy.allocator": "slob"}, 300),
    "noise alone, 16 CPUs": ("fix", {"machine.cpus": 16, "workload.copiers": 0, "workload.writers": 1,
                                     "workload.start_spread_ms": 1 << 31}, 36_000),
}  # fmt: skip
TOLD = ("cpu_ticks", "slab_fast", "slab_slow", "pages_copied", "anonymous_pages", "pages_swapped_out", "commands")


def soak_lane(name: str, lane: int, seed: int) -> dict[str, int]:
    """Sums of one lane of a load; raises LaneError where it breaks."""
    variant, settings, seconds = LOADS[name]
    scenario = small(variant, settings | {"run.duration_s": seconds, "run.series_ms": 60_000})
    arrays = build_lane(scenario, lane, seed)
    checked = 0
    for slice_ in range(-(-seconds // LOOK_S)):
        begun = int(arrays.vm.ctl[VM.now])
        look = slice_ % 2 == 1 and checked < CHECKED
        arrays.vm.ctl[VM.debug] = look
        until = min(seconds, (slice_ + 1) * LOOK_S)
        run_lane(*arrays, until * ms.NS_PER_S)
        check_sound(lane, arrays, scenario)
        checked += look * (int(arrays.vm.ctl[VM.now]) - begun) // int(arrays.vm.ctl[VM.jiffy_ns])
    metrics = dict(zip(METRIC.names, result_of(lane, arrays).metrics.tolist(), strict=True))
    return {each: metrics[each] for each in TOLD} | {"lanes": 1, "jiffies_checked": checked}


def soak(ticks: int, seed: int) -> dict[str, dict[str, int]]:
    """Sums by load, of as many lanes as ``ticks`` CPU-ticks take."""
    sums: dict[str, dict[str, int]] = {name: {} for name in LOADS}
    numbers = {name: count() for name in LOADS}
    done = 0
    for name in cycle(LOADS):
        found = soak_lane(name, next(numbers[name]), seed)
        sums[name] = {key: sums[name].get(key, 0) + value for key, value in found.items()}
        done += found["cpu_ticks"]
        print(f"{done:>14,}  {name}: {found}", file=sys.stderr, flush=True)
        if done >= ticks:
            return sums
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=TICKS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    begun = time.process_time()
    try:
        sums = soak(options.ticks, options.seed)
    except LaneError as error:
        raise SystemExit(f"{error}") from None
    total = {key: sum(load.get(key, 0) for load in sums.values()) for key in (*TOLD, "lanes", "jiffies_checked")}
    record = {"seed": options.seed, "total": total, "loads": sums, "broken": 0}
    record["cpu_s"] = round(time.process_time() - begun)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{total['cpu_ticks']:,} CPU-ticks, {total['jiffies_checked']:,} jiffies checked, no lane broke")


if __name__ == "__main__":
    main()
