"""Speed of a replay, in one process: decoding, the kernel, eight what-ifs beside it, memory.

    python benchmarks/replay_trace.py RUN.events.parquet [TEXT ...]

Prints a table; rates are of one core, ratios are of runs taken in turn.
"""

import resource
import sys
import time
from pathlib import Path

from fastalloc.trace.compact.columns import read_parquet
from fastalloc.trace.formats.text import read_text
from fastalloc.trace.replay.recording import beside, open_recording, read_trace

WARM = Path(__file__).parents[1] / "tests" / "data" / "traces" / "d_stack_k612.events.parquet"
WHAT_IFS = [
    "cpu_partial=0",
    "cpu_partial=6",
    "order=0",
    "order=1",
    "min_partial=0",
    "min_partial=20",
    "nomerge",
    "order=0,cpu_partial=0",
]
ROUNDS = 5
DRAWS = 3
THREADS = 2


def timed(function, *arguments):
    """Seconds and result."""
    begin = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begin, result


def peak_mib():
    """Most memory this process held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib():
    """What this process holds now, MiB [proc_pid_statm(5)]."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def opened(path):
    """A recording with its start state."""
    return open_recording(path, beside(path, "slabstate"), None, "6.1", "")


def events_of_text(path):
    """How many events a text has."""
    return sum(map(len, read_text(path)))


def rate(what, seconds, events):
    """Print events a second."""
    print(f"{what:<52}{events / seconds / 1e6:>10.2f} M events/s")


def main() -> None:
    """Measure and print."""
    path = Path(sys.argv[1])
    opened(WARM).run(WHAT_IFS)
    base = resident_mib()
    seconds, trace = timed(read_trace, path)
    memory = {"decoding": peak_mib() - base}
    compact = trace.nbytes / 2**20
    rate("decoded from Parquet: read, caches inferred", seconds, trace.meta["rows_read"])
    del trace
    seconds, recording = timed(opened, path)
    decode = seconds
    memory["decoding and resolving the order"] = peak_mib() - base
    count = len(recording.trace.events)
    rate("opened for replay: decoded, order resolved", seconds, count)
    recording.run(WHAT_IFS, 1)
    memory["that and nine configurations"] = peak_mib() - base
    recording.run([], DRAWS)
    memory["that and drawn orders, as --check does"] = peak_mib() - base
    alone, all_of_them, kernel, together = [], [], [], []
    for _ in range(ROUNDS):
        seconds, predictions = timed(recording.run, [], 1)
        alone.append(seconds)
        kernel.append(predictions[0].result.seconds)
        seconds, predictions = timed(recording.run, WHAT_IFS, 1)
        all_of_them.append(seconds - alone[-1])
        seconds, _ = timed(recording.run, WHAT_IFS, 1, None, THREADS)
        together.append(seconds)
    one = min(kernel)
    rate("replay kernel", one, count)
    rate("a run with its table and series", min(alone), count)
    print(f"{'eight what-ifs, in runs of the kernel':<52}{min(all_of_them) / one:>10.2f}")
    print(f"{'nine configurations, two threads, the same':<52}{min(together) / one:>10.2f}")
    print(f"{'eight what-ifs, kernels alone':<52}{sum(p.result.seconds for p in predictions[1:]) / one:>10.2f}")
    print(f"{'opening, in runs of the kernel':<52}{decode / one:>10.2f}")
    print(f"{'compact trace':<52}{compact:>10.1f} MiB")
    for what, most in memory.items():
        print(f"{'most memory, ' + what:<52}{most:>10.1f} MiB, {most / compact:.1f} times the compact trace")
    seconds, frames = timed(lambda: sum(map(len, read_parquet(path))))
    rate("Parquet, read", seconds, frames)
    for name in sys.argv[2:]:
        seconds, frames = min(timed(events_of_text, Path(name)) for _ in range(ROUNDS))
        rate("text, read: " + Path(name).name, seconds, frames)


if __name__ == "__main__":
    main()
