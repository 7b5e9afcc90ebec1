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


def test_cpus_that_take_turns_are_nearly_one_but_for_the_lock():
    """A turn ends in the midst of a task's reclaim too, and the next CPU's task goes on in the same cluster
    [scan_swap_map: a swap area has one cluster_next]. But CPU 1 stands still for most of the time in which both have
    work, so slots are seldom shared out: 0.97 of one CPU's pages a command. A turn that ends inside swap_lock has both
    go on slot by slot until one ends outside: 0.89."""
    one = pages_a_command(ONE, lanes=32)
    seldom, lock = (pages_a_command(settings, lanes=32) / one for settings in (TURNS | NO_LOCK, TURNS))
    assert 0.8 < lock < seldom < 1.05
    assert lock < 0.95 * seldom
