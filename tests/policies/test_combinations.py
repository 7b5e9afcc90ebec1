"""Why machines of the combinations sweep with CPUs that run at once swap fewer pages: the swap cluster of 2.6.25."""

from tests.closed_loop.small import OWN_CORES, metric, run, small

TURNS = {"machine.shared_core": True}


def pages_a_command(settings):
    lanes = [run(small("fix", {"run.duration_s": 15.0} | settings), lane) for lane in range(4)]
    return sum(metric(lane, "pages_swapped_out") for lane in lanes) / sum(metric(lane, "commands") for lane in lanes)


def test_cpus_that_reclaim_at_once_interleave_their_swap_slots():
    """One cluster for the machine: two CPUs with a core each share it out slot by slot and half as many bios meet a
    neighbour in the queue; taking turns they do as one CPU does."""
    one, turns, cores = (pages_a_command(settings) for settings in ({"machine.cpus": 1}, TURNS, OWN_CORES))
    assert 0.9 < turns / one < 1.1
    assert cores < 0.6 * turns
