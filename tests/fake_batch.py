"""Made-up lanes in the shape of real ones, for tests of what comes after the kernels."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastalloc.kernels.alloc.state import DEPTH
from fastalloc.kernels.lane.metrics import EVENT, EVENT_ROW, METRIC, SERIES, WHO
from fastalloc.scenario import Scenario


class LaneResult(NamedTuple):
    lane: int
    metrics: np.ndarray
    series: np.ndarray
    events: np.ndarray
    ledger: np.ndarray


class BatchProgress(NamedTuple):
    lanes_done: int
    lanes: int
    simulated_ms: int
    total_ms: int
    livelocks: int
    wall_s: float
    compiling: bool


def run_machines(
    scenarios: Sequence[Scenario],
    lanes: Sequence[int],
    *,
    seed: int,
    threads: int = 0,
    batch: int = 0,
    full_events: bool = False,
    debug: bool = False,
    skip: bool = True,
    progress: Callable[[BatchProgress], None] | None = None,
    broken: Callable[[int, object], None] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[tuple[int, LaneResult]]:
    """Lanes that depend on policy, seed and lane alone; rc8 livelocks in about two thirds of them."""
    ms = int(scenarios[0].run.duration_s * 1000)
    livelocks = done = 0
    total = len(scenarios) * len(lanes)
    for i, scenario in enumerate(scenarios):
        for lane in lanes:
            if cancel is not None and cancel.is_set():
                return
            done += 1
            result = fake_lane(scenario, lane, seed, full_events)
            livelocks += int(result.metrics[METRIC.livelock_5s])
            if progress is not None:
                progress(BatchProgress(done, total, done * ms, total * ms, livelocks, 0.1 * done, False))
            yield i, result


def run_lanes(scenario: Scenario, lanes: Sequence[int], **options) -> Iterator[LaneResult]:
    """The lanes of one scenario."""
    for _, result in run_machines([scenario], lanes, **options):
        yield result


def fake_lane(scenario: Scenario, lane: int, seed: int, full_events: bool = False) -> LaneResult:
    """One lane: memory fills for 20 s, then rc8 may livelock while other policies run in episodes."""
    random = np.random.default_rng([seed, lane])
    policy, ms = scenario.policy, int(scenario.run.duration_s * 1000)
    apart = policy.slub_nomerge or policy.sense_ctor
    begins = int(20_000 + random.integers(0, 12_000))
    locks = policy.command_rule == "rc8" and not apart and scenario.host.queue_depth == 1 and random.random() < 0.66
    length = ms - begins if random.random() < 0.75 else int(random.integers(5_000, 15_000))
    ends = min(begins + length, ms) if locks else begins

    t = np.arange(0, ms + 1, scenario.run.series_ms, dtype=np.int64)
    pressed, locked = t > 18_000, (t >= begins) & (t < ends)
    s = {name: np.zeros(len(t), np.int64) for name in SERIES.names}
    wave = (np.sin(t / 3000 + lane) + 1) / 2
    s["t_ms"] = t
    s["free_dma"] = np.where(pressed, 487, 3310 - t * 2800 // 18_000)
    s["free_dma32"] = np.where(pressed, 2 + (14 * wave * (random.random(len(t)) > 0.3)).astype(int), 122_000 - t * 6.7)
    s["free_dma32"] = np.where(locked, 1, s["free_dma32"]).astype(np.int64)
    s |= {f"free_{name}": np.full(len(t), -1) for name in ("normal", "highmem", "movable")}
    s["writeback"] = np.where(pressed, 4000 + 6000 * wave, 0).astype(np.int64)
    s["writeback"] = np.where(locked, 8123, s["writeback"])
    s["bios"] = s["writeback"] + np.where(pressed & ~locked, random.integers(0, 20, len(t)), 0)
    s["commands"] = np.where(pressed & ~locked, 1, 0)
    s["requests"] = np.where(pressed, 128, 0)
    s["bio_slabs"] = s["bios"] // 32 + 8
    s["bio_free_slots"] = np.where(locked, 3, s["bio_slabs"] * 32 - s["bios"])
    s["bio_pool"] = np.where(pressed, 0, 2)
    s["free_list"] += 1
    s["bio_waiters"] = np.where(locked, 6, np.where(pressed, 4 * wave, 0)).astype(np.int64)
    s["request_waiters"] = np.where(locked, 47, np.where(pressed, 20 * wave, 0)).astype(np.int64)
    s["congestion_waiters"] = np.where(pressed & ~locked, 8 * (1 - wave), 0).astype(np.int64)
    s["running"] = np.maximum(0, 55 - s["bio_waiters"] - s["request_waiters"] - s["congestion_waiters"])
    s["running"] = np.where(locked, 1, s["running"])
    s["slab_pages"] = 1000 + s["bio_slabs"]
    fails = np.where(locked, 62, 0 if apart else np.where(pressed & (random.random(len(t)) > 0.9), 3, 0))
    s["sense_fail"] = np.cumsum(fails)
    fix = policy.command_rule == "fix"
    s["free_list_used"] = np.cumsum(np.where(fix, fails, 0))
    moving = np.where(pressed & ~locked, 25, 0)
    s["commands_total"] = np.cumsum(moving)
    s["swapped_out"] = np.cumsum(np.where(pressed & ~locked, 400, 0))
    s["reports"] = np.cumsum((t % 5000 == 0) & pressed & (fails > 0))
    series = np.column_stack([s[name] for name in SERIES.names]).astype(np.int64)

    m = dict.fromkeys(METRIC.names, 0)
    m |= dict.fromkeys((name for name in METRIC.names if name.startswith("at_")), -1)
    m |= {
        "sim_ms": ms,
        "cpu_ticks": ms * scenario.machine.hz * scenario.machine.cpus // 1000,
        "livelock_5s": int(ends - begins > 5_000),
        "livelock_60s": int(ends - begins > 60_000),
        "livelock_onset_ms": begins if locks else -1,
        "livelock_ms": ends - begins,
        "livelock_open": int(locks and ends == ms),
        "livelocks": int(ends - begins > 5_000),
        "stall_ms": max(ends - begins, int(random.integers(100, 900))),
        "stall_onset_ms": begins,
        "sense_fail": int(s["sense_fail"][-1]),
        "free_list_used": int(s["free_list_used"][-1]),
        "reports": int(s["reports"][-1]),
        "pages_swapped_out": int(s["swapped_out"][-1]),
        "max_writeback": int(s["writeback"].max()),
        "max_bio_slabs": int(s["bio_slabs"].max()),
        "max_slab_pages": int(s["slab_pages"].max()),
        "min_free_dma": 487,
        "min_free_dma32": int(s["free_dma32"].min()),
        "deepest": DEPTH.width - 1,
    }
    if m["livelock_5s"]:
        m |= {"at_ms": begins + 5000, "at_commands": 0, "at_bios": 8123, "at_writeback": 8123, "at_bio_slabs": 260}
        m |= {"at_bio_free_slots": 3, "at_bio_pool": 0, "at_bio_waiters": 6, "at_request_waiters": 47, "at_running": 1}
        m |= {"at_free_dma": 487, "at_free_dma32": 1, "at_sense_fail_5s": 1237}
    metrics = np.array([m[name] for name in METRIC.names], np.int64)

    rows = []
    if locks:
        rows.append((begins, "livelock_begin", 0, -1, 8123, 8123, 3))
        rows.append((begins + 5000, "livelock_5s", 0, -1, 8123, 8123, 3))
        rows += [(at, "report", 0, -1, 0x20, 0, 1237) for at in range(begins, ends, 5100)]
        if ends < ms:
            rows.append((ends, "livelock_end", 0, -1, ends - begins, -1, -1))
    if full_events:
        rows += [(at, "command_start", 0, -1, 32, 0, 0) for at in range(18_000, begins, 100)]
    rows.sort(key=lambda row: row[0])
    events = np.array([(t0 * 10**6, EVENT.names.index(kind), *rest) for t0, kind, *rest in rows], np.int64)
    events = events.reshape(-1, EVENT_ROW.width)

    ledger = np.zeros((WHO.width, DEPTH.width, len(WHO.names)), np.int64)
    who = WHO.names.index
    ledger[who("bio"), 2, who("bio")] = 9000
    ledger[who("boot"), 0, who("atomic noise")] = 300
    ledger[who("atomic noise"), 4, who("bio")] = 0 if policy.slub_nomerge else 310
    ledger[who("atomic noise"), 4, who("atomic noise")] = 120
    ledger[who("sense"), 4, who("sense")] = 90
    ledger[who("sense"), 4, who("bio")] = 0 if apart else 1240
    ledger[who("sense"), 5, who("bio")] = 0 if apart else 62
    ledger[who("bio"), 2, who("sense")] = 0 if apart else 210
    ledger[who("radix node"), 5, who("radix node")] = 770
    return LaneResult(lane, metrics, series, events, ledger)
