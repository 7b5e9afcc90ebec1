"""What is measured of a policy: on the small machines as they are, and under an adversary.

The adversary takes every slot and page that it can get before each attempt at a command, with __GFP_HIGH and an
interrupt's rights ("atomic") or with PF_MEMALLOC ("reclaim"), and gives nothing back. Progress that survives rests on
what the policy keeps for the swap path alone.
"""

from functools import cache

from fastalloc.report.statistics import Z_95, paired_interval
from fastalloc.scenario import load_policy, with_policies
from tests.closed_loop.small import OWN_CORES, gauge, metric, run, small
from tests.policies.test_closed_loop import LANES as PLAIN_LANES
from tests.policies.test_closed_loop import results, scenario

LANES = range(8)
# Lanes and the width of the interval by which they decide: 99.5 %, then 95 %
LOOKS = ((range(96), 2.807), (range(480), Z_95))
LEAN = {"run.series_ms": 15_000, "run.max_events": 0}
STRENGTHS = ("atomic", "reclaim")
BASE = small("rc8", OWN_CORES | {"run.duration_s": 9.0, "run.series_ms": 10})
DEPTH = 4  # of the host that tells one command from n


def with_adversary(policies, strength):
    return with_policies(BASE, [policies]).variant(policies).with_settings({"workload.adversary": strength})


@cache
def result_with_adversary(policies, strength, lane):
    return run(with_adversary(policies, strength), lane)


def results_with_adversary(policies, strength, lanes=LANES):
    return [result_with_adversary(policies, strength, lane) for lane in lanes]


def stuck(policies, strength, lanes=LANES):
    """Lanes whose commands stop for good."""
    found = zip(lanes, results_with_adversary(policies, strength, lanes), strict=True)
    return [lane for lane, result in found if metric(result, "livelock_5s") and metric(result, "livelock_open")]


@cache
def failing(policies, lanes=PLAIN_LANES):
    """Small machines, as they are, with a sense failure."""
    found = results(policies)
    found = found + [run(scenario(policies).with_settings(LEAN), lane) for lane in lanes[len(found) :]]
    return {lane for lane, result in zip(lanes, found, strict=True) if metric(result, "sense_fail")}


def refused_to_adversary(policies, strength):
    """Whether there is a sense failure under an adversary. Where only a command that fails asks for a buffer, one of a
    thousand, all do: eight lanes of some 800 commands would ask a few times, and see a refusal by chance."""
    if load_policy(policies).set.get("policy.sense") != "lazy":
        return any(metric(result, "sense_fail") for result in results_with_adversary(policies, strength))
    failing_commands = with_adversary(policies, strength).with_settings({"policy.sense_error_ppm": 1_000_000})
    return any(metric(run(failing_commands, lane), "sense_fail") for lane in LANES)


@cache
def in_flight(policies):
    """Commands that are in flight at once in the worst lane, long after PF_MEMALLOC took all: host depth DEPTH, and as
    many sense buffers in a mempool of them as it is deep."""
    deep = {"host.queue_depth": DEPTH, "host.can_queue": DEPTH}
    chosen = with_adversary(policies, "reclaim").with_settings(deep)
    if chosen.policy.sense_pool:
        chosen = chosen.with_settings({"policy.sense_pool": DEPTH})
    at_once = [gauge(run(chosen, lane), "commands") for lane in LANES]
    return min(int(commands[len(commands) // 2 :].max()) for commands in at_once)


def prevents(policies):
    """Sense failures. yes: none, not even under an adversary; statistically: on fewer machines than under
    rc8, by the 95 % interval of the paired difference on 480 of them. Of the first 96 the difference must be so large
    that its 99.5 % interval leaves 0 out; else all are run (of 36 presets that change nothing one may pass)."""
    if not failing(policies):
        refused = any(refused_to_adversary(policies, strength) for strength in STRENGTHS)
        return "statistically" if refused else "yes"
    if failing(policies) == failing("rc8"):
        return "no"
    for lanes, z in LOOKS:
        ours, theirs = failing(policies, lanes), failing("rc8", lanes)
        if paired_interval(len(ours - theirs), len(theirs - ours), len(lanes), z)[1] < 0:
            return "statistically"
    return "no"


def guarantees(policies):
    """Commands that go on under either adversary: no, 1 or n."""
    if any(stuck(policies, strength) for strength in STRENGTHS):
        return "no"
    return "n" if in_flight(policies) > 1 else "1"
