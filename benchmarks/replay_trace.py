"""Speed of a replay, in one process: decoding, the kernel, eight what-ifs beside it, memory.

    python benchmarks/replay_trace.py RUN.events.parquet [TEXT ...]

Prints a table; rates are of one core, ratios are of runs taken in turn.
"""

import resource
import sys
import time
from pathlib import Path

from fastalloc.trace.columns import read_parquet
from fastalloc.trace.recording import beside, open_recording
from fastalloc.trace.text import read_text

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
THREADS = 2


def timed(function, *arguments):
    """Seconds and result."""
    begin = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begin, result


def peak_mib():
    """Most memory this process held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    path = Path(sys.argv[1])
    read_parquet(path)
    seconds, events = timed(read_parquet, path)
    print(f"{'Parquet, read':<44}{len(events) / seconds / 1e6:>10.2f} M events/s")
    del events
    for name in sys.argv[2:]:
        read_text(Path(name))
        seconds, events = timed(read_text, Path(name))
        print(f"{'text, read: ' + Path(name).name:<44}{len(events) / seconds / 1e6:>10.2f} M events/s")
    seconds, recording = timed(open_recording, path, beside(path, "slabstate"), None, "6.1", "")
    count = len(recording.trace.events)
    print(f"{'Parquet, opened for replay':<44}{count / seconds / 1e6:>10.2f} M events/s")
    decode = seconds
    alone, all_of_them, kernel, together = [], [], [], []
    recording.run(WHAT_IFS, 1)
    before = peak_mib()
    for _ in range(ROUNDS):
        seconds, predictions = timed(recording.run, [], 1)
        alone.append(seconds)
        kernel.append(predictions[0].result.seconds)
        seconds, predictions = timed(recording.run, WHAT_IFS, 1)
        all_of_them.append(seconds - alone[-1])
        seconds, _ = timed(recording.run, WHAT_IFS, 1, None, THREADS)
        together.append(seconds)
    one = min(kernel)
    print(f"{'kernel':<44}{count / one / 1e6:>10.1f} M events/s")
    print(f"{'a run, everything':<44}{count / min(alone) / 1e6:>10.1f} M events/s")
    print(f"{'eight what-ifs, in runs of the kernel':<44}{min(all_of_them) / one:>10.2f}")
    print(f"{'nine configurations, two threads, the same':<44}{min(together) / one:>10.2f}")
    print(f"{'eight what-ifs, kernels alone':<44}{sum(p.result.seconds for p in predictions[1:]) / one:>10.2f}")
    print(f"{'decoding, in runs of the kernel':<44}{decode / one:>10.2f}")
    compact = recording.trace.nbytes / 2**20
    print(f"{'compact trace':<44}{compact:>10.1f} MiB")
    print(f"{'most memory, replays above decoding':<44}{peak_mib() - before:>10.1f} MiB")


if __name__ == "__main__":
    main()
