"""What single policies do on 24 machines of 34 MB, and CPUs on four of 512 MB: counts that docs/policies-*.md quote.

    python results/swap-livelock/counts.py     # two minutes on a core

Writes counts.json beside it: a name, and the sum over the lanes. Seed 1, as the presets have it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastalloc.batch import run_lanes
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.scenario import load_scenario, with_policies

SMALL, LARGE = "swap-livelock-34m", "swap-livelock"
APART: dict[str, Any] = {"policy.emergency_merge": False, "policy.emergency_users": ["bio", "sense"]}
ALL = ("livelock_5s", "sense_fail")
# name: policies, settings, metrics
RUNS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "rc8": ("rc8", {}, (*ALL, "bio_fast_fail", "pages_swapped_out")),
    "v2": ("emergency-v2", {}, ALL),
    "v2-apart": ("emergency-v2", APART, ("emergency_lost", "emergency_used")),
    "v2-by-page": ("emergency-v2", APART | {"policy.emergency_free": "page"}, ("emergency_lost", "emergency_used")),
    "ideal": ("emergency-ideal", {}, ALL),
    "ideal-shared": ("emergency-ideal", {"policy.emergency_users": ["bio", "sense"]}, ALL),
    "hosts-96": ("hosts-96-260", {"policy.host_sense_bytes": [96]}, ("host_commands", "host_refused")),
    "hosts-260": ("hosts-96-260", {"policy.host_sense_bytes": [260]}, ("host_commands", "host_refused")),
    "hosts-fix": ("fix+hosts-96-260", {"policy.host_sense_bytes": [96]}, ("host_sense_fail", "host_refused")),
    "hosts-apart": ("nomerge-sense+hosts-96-260", {"policy.host_sense_bytes": [96]}, ("host_sense_fail",)),
    "pfmemalloc": ("pfmemalloc", {}, ALL),
    "stack": ("on-stack-bio", {}, (*ALL, "pages_swapped_out")),
    "gate": ("write-gate", {}, (*ALL, "bio_fast_fail", "pages_swapped_out", "writes_put_off")),
    "tree": ("reserve-tree", {}, ALL),
}
CPUS = {"1": {"machine.cpus": 1}, "2": {"machine.cpus": 2}, "4": {"machine.cpus": 4}}
LEAN = {"run.series_ms": 60_000, "run.max_events": 0}


def sums(scenario: str, policies: str, settings: dict[str, Any], lanes: int) -> dict[str, int]:
    """Every metric, added up over the lanes."""
    chosen = with_policies(load_scenario(scenario), [policies]).variant(policies).with_settings(LEAN | settings)
    total = np.sum([result.metrics for result in run_lanes(chosen, range(lanes), seed=chosen.run.seed)], axis=0)
    return dict(zip(METRIC.names, map(int, total), strict=True))


def main() -> None:
    """Write counts.json."""
    found: dict[str, float] = {}
    for name, (policies, settings, metrics) in RUNS.items():
        total = sums(SMALL, policies, settings, 24)
        found |= {f"{name}.{metric}": total[metric] for metric in metrics}
    for sense in (96, 104):
        for policies in ("rc8", "slob"):
            total = sums(LARGE, policies, {"policy.sense_bytes": sense}, 24)
            found[f"{policies}-{sense}.livelock_5s"] = total["livelock_5s"]
    for name, settings in (*CPUS.items(), ("2-turns", {"machine.cpus": 2, "machine.shared_core": True})):
        total = sums(LARGE, "fix", settings, 4)
        found[f"cpus-{name}.pages"] = total["pages_swapped_out"] / 4
        found[f"cpus-{name}.pages_a_command"] = total["pages_swapped_out"] / total["commands"]
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
