"""How often a sense failure finds the device idle, and whether that is the end: refusals.json beside it.

    python results/swap-livelock/refusals.py     # two minutes on a core

16 lanes of 90 s under each policy, counted until a lane livelocks.
"""

import json
from pathlib import Path

from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import IO, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import load_scenario
from fastalloc.scenario.policy_presets import with_policies

POLICIES = ["rc8", "no-bio-merge", "depth-31", "order-fallback", "mempool-wake-one"]
LANES = 16
SECONDS = 90
COUNTED = ("commands", "sense_fail", "idle_refused", "bio_waits")


def lane_until_livelock(scenario, lane):
    """A lane just before its livelock, or at its end; and the most bios outstanding at whole seconds."""
    arrays = build_lane(scenario, lane, 1)
    most = 0
    for second in range(1, SECONDS + 1):
        run_lane(*arrays, second * 10**9)
        most = max(most, int(arrays.io.ctl[IO.bios]))
        if arrays.vm.ctl[VM.livelock_stage] > 0:
            onset = int(arrays.vm.ctl[VM.livelock_since])
            arrays = build_lane(scenario, lane, 1)
            run_lane(*arrays, onset - 1000)
            return arrays, most, True
    return arrays, most, False


def main():
    """Count, and write."""
    scenario = with_policies(load_scenario("swap-livelock"), POLICIES)
    rows = []
    for variant in scenario.variants:
        row = dict.fromkeys(("livelocked", *COUNTED), 0)
        bios = []
        for lane in range(LANES):
            arrays, most, livelocked = lane_until_livelock(scenario.variant(variant.name), lane)
            row["livelocked"] += livelocked
            bios.append(most)
            for name in COUNTED:
                row[name] += int(arrays.out.metric[getattr(METRIC, name)])
        row["most_bios_median"] = sorted(bios)[LANES // 2]
        if row["idle_refused"]:
            row["commands_a_refusal"] = round(row["commands"] / row["idle_refused"])
        rows.append({"policy": variant.name, "lanes": LANES} | row)
    Path(__file__).with_suffix(".json").write_text(json.dumps({"policies": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
