"""Each policy beside the fix alone: what does it cost the kernels of the closed loop, a page that they handle?"""

from collections.abc import Iterator

from benchmarks.lanes import metrics_of
from benchmarks.measure import Row, figure, race
from fastalloc.batch import check_sound, result_of
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import Scenario, load_scenario, policy_names, with_policies

QUESTION = (
    "How many times the processor time of the fix alone does a page copied, scanned or swapped take under each policy, "
    "the fix beside it so that no lane livelocks?"
)
LANE = 3


def variants() -> dict[str, Scenario]:
    """The fix, then each policy with it; alone where the two are no pair."""
    base = load_scenario("swap-livelock")
    found = {"fix": base.variant("fix")}
    for name in policy_names():
        for asked in (f"{name}+fix", name):
            try:
                found.setdefault(name, with_policies(base, [asked]).variant(asked))
            except InputError:
                continue
    return found


def run(quick: bool) -> Iterator[Row]:
    """All in turn, round by round; lanes that livelock all the same are left out."""
    seconds, repeats = (15, 2) if quick else (60, 7)
    lanes: dict[str, Lane] = {}

    def contestant(name: str, wanted: Scenario):  # type: ignore[no-untyped-def]
        def prepare():  # type: ignore[no-untyped-def]
            lanes[name] = build_lane(wanted.with_settings({"run.duration_s": seconds}), LANE, 1)
            return lambda: run_lane(*lanes[name], seconds * ms.NS_PER_S)

        return prepare

    times = race({name: contestant(name, wanted) for name, wanted in variants().items()}, repeats)
    costs = {}
    for name, arrays in lanes.items():
        check_sound(LANE, arrays)
        metrics = metrics_of(result_of(LANE, arrays))
        if not metrics["livelock_5s"]:
            pages = metrics["pages_copied"] + metrics["pages_scanned"] + metrics["pages_swapped_out"]
            costs[name] = [spent / pages for spent in times[name]]
    fix = costs.pop("fix")
    found = [
        figure(name, "beside the fix", [own / other for own, other in zip(cost, fix, strict=True)], "x its time")
        for name, cost in costs.items()
    ]
    yield from sorted(found, key=lambda row: -row.value)
