"""Why machines of the combinations sweep with CPUs that run at once swap fewer pages: the swap cluster of 2.6.25."""

from tests.closed_loop.small import OWN_CORES, metric, run, small

ONE = {"machine.cpus": 1}
TURNS = {"machine.shared_core": True}
NO_LOCK = {"costs.swap_lock": 1}  # ns that swap_lock is held


def pages_a_command(settings, hz=250, lanes=12):
    chosen = small("fix", {"run.duration_s": 15.0, "machine.hz": hz} | settings)
    ran = [run(chosen, lane) for lane in range(lanes)]
    return sum(metric(lane, "pages_swapped_out") for lane in ran) / sum(metric(lane, "commands") for lane in ran)


def test_cpus_that_reclaim_at_once_interleave_their_swap_slots():
    """One cluster for the machine: two CPUs with a core each share it out slot by slot and half as many bios meet a
    neighbour in the queue."""
    assert pages_a_command(OWN_CORES) < 0.6 * pages_a_command(TURNS)


def test_cpus_that_take_turns_interleave_their_swap_slots_where_a_turn_ends():
    """A turn ends at a tick of either CPU or a completion, in the midst of a task's reclaim too, and the next CPU's
    task goes on in the same cluster [scan_swap_map: a swap area has one cluster_next]. So the fewer ticks, the nearer
    to one CPU: 0.85 of its pages a command with 100 HZ, 0.6 with 1000. A turn that ends inside swap_lock has both go on
    slot by slot until one ends outside, which with 100 HZ takes 5 ms and more: 0.78."""
    often = pages_a_command(TURNS | NO_LOCK, 1000) / pages_a_command(ONE, 1000)  # 0.65, and 0.64 to 0.67 of other lanes
    seldom = pages_a_command(TURNS | NO_LOCK, 100, 64)  # close to the bounds, so of more lanes
    assert 1 > seldom / pages_a_command(ONE, 100, 64) > 0.8 > often > 0.5
    assert pages_a_command(TURNS, 100, 64) < 0.95 * seldom
