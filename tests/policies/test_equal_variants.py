"""Policies that make the same machine are run once; whatever differs anywhere is run by itself."""

import pytest

from fastalloc.batch import run_machines, run_serial
from fastalloc.batch.equal_variants import first_alike
from fastalloc.scenario import load_scenario, with_policies
from tests.closed_loop.small import OWN_CORES, SHRUNK, image

SEED = 1
LANES = range(3)


@pytest.fixture(scope="module")
def board():
    """Every preset on the small machine with cores of its own, by name."""
    base = load_scenario("swap-livelock").with_settings(SHRUNK | OWN_CORES | {"run.duration_s": 8.0})
    compared = with_policies(base, ["all"])
    return {variant.name: compared.variant(variant.name) for variant in compared.variants}


def pairs(board):
    """{name: name of the earlier one that is the same machine}."""
    names = list(board)
    return {names[i]: names[j] for i, j in enumerate(first_alike(list(board.values()), 0, SEED)) if i != j}


def test_a_preset_that_is_another_by_a_new_name_is_found(board):
    assert pairs(board) == {
        "2.6.25-rc8": "rc8",
        "6.18": "6.12",
        "7.3": "7.2",
        "fix": "2.6.25",
        "inline-sense": "2.6.24",
        "nothing-more": "2.6.25",
    }


def test_twins_run_by_themselves_give_the_same_bytes(board):
    ran = {}
    for name in {*pairs(board), *pairs(board).values()}:
        ran[name] = [image(result) for result in run_serial(board[name], LANES, seed=SEED)]
    for name, twin in pairs(board).items():
        assert ran[name] == ran[twin]


def test_shared_lanes_are_told_in_the_order_asked_for(board):
    names = ["fix", "rc8", "nothing-more", "2.6.25-rc8", "ctor"]
    scenarios = [board[name] for name in names]
    told = list(run_machines(scenarios, LANES, seed=SEED, threads=2))
    assert [(i, result.lane) for i, result in told] == [(i, lane) for i in range(len(names)) for lane in LANES]
    for i, scenario in enumerate(scenarios):
        alone = [image(result) for result in run_serial(scenario, LANES, seed=SEED)]
        assert [image(result) for j, result in told if j == i] == alone


def test_progress_counts_shared_lanes_too(board):
    seen = []
    list(run_machines([board["fix"], board["nothing-more"]], LANES, seed=SEED, threads=1, progress=seen.append))
    assert seen[-1].lanes_done == seen[-1].lanes == 2 * len(LANES)
    assert seen[-1].simulated_ms == seen[-1].total_ms == 2 * len(LANES) * 8000


@pytest.mark.parametrize(
    "settings",
    [
        {"policy.swap_bio_limit": 500},
        {"workload.start_spread_ms": 204},
        {"run.duration_s": 8.004},
        {"disk.irq_cpu": 1},
        {"policy.questions": "def depth(who, zone):\n    return -1\n"},
    ],
)
def test_one_field_apart_is_another_machine(board, settings):
    rc8 = board["rc8"]
    assert first_alike([rc8, rc8.with_settings(settings), rc8], 0, SEED) == [0, 1, 0]
