"""A log of any size: found cheaply, in constant memory, every report once and by its own line."""

import io
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import fastalloc
from fastalloc.explain.log import iter_answers

REPORTS = Path(__file__).parents[1] / "data" / "memory_reports"
NUMA = (REPORTS / "041-5.8next-numa-oom" / "input.txt").read_text()
ATOMIC = (REPORTS / "025-4.8-order0-highatomic-only" / "input.txt").read_text()
CHATTER = (
    "May 30 14:08:{0:02d} host kernel: [{1:12.6f}] usb 1-1.4: new high-speed USB device number {0} using xhci_hcd\n"
)


class Log(io.RawIOBase):
    """A log that is made as it is read: chatter, and at some lines a report."""

    def __init__(self, lines: int, reports: dict[int, str]) -> None:
        self.at, self.lines, self.reports = 0, lines, reports
        self.rest = b""
        self.number = 1
        self.begins: list[int] = []

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, length = [self.rest], len(self.rest)
        while length < size and self.at < self.lines:
            if self.at in self.reports:
                text = self.reports[self.at]
                self.begins.append(self.number)
            else:
                text = CHATTER.format(self.at % 60, self.at / 100)
            self.number += text.count("\n")
            self.at += 1
            parts.append(text.encode())
            length += len(parts[-1])
        whole = b"".join(parts)
        self.rest = whole[size:]
        return whole[:size]


def test_every_report_of_a_log_of_12_mb_is_found_at_its_line():
    log = Log(120_000, {5: NUMA, 40_000: ATOMIC, 40_001: NUMA, 90_000: ATOMIC, 119_999: NUMA})
    got = [(answer.report.line, answer.verdict) for answer in iter_answers(log)]
    assert got == list(zip(log.begins, ["below-mark", "other", "below-mark", "other", "below-mark"], strict=True))


def test_memory_does_not_grow_with_the_log():
    def peak(lines: int) -> int:
        tracemalloc.start()
        assert len(list(iter_answers(Log(lines, {lines // 2: NUMA})))) == 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(60_000) < 1.2 * peak(30_000)


def test_a_log_of_nothing_but_reports_is_answered_up_to_the_limit_and_counted():
    beyond: Counter[str] = Counter()
    log = Log(150, dict.fromkeys(range(150), NUMA))
    assert len(list(iter_answers(log, 20, beyond))) == 20
    assert beyond == {"oom order 0, mode 0x100dca": 130}


def test_a_log_in_another_encoding_or_packed_is_read(tmp_path):
    import gzip

    wide = tmp_path / "wide.txt"
    wide.write_bytes(NUMA.encode("utf-16"))
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(NUMA.encode()))
    for file in (wide, packed):
        assert [answer.verdict for answer in fastalloc.explain(file)] == ["below-mark"]


def test_a_log_that_is_one_line_takes_no_more_memory_and_is_answered():
    class Line(io.RawIOBase):
        def __init__(self, size: int) -> None:
            self.left = size

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.left)
            self.left -= size
            one = b"kernel: page allocation failure. order:0, mode:0x20 " + b"x" * 8000
            return (one * (size // len(one) + 1))[:size]

    def peak(size: int) -> int:
        tracemalloc.start()
        assert len(list(iter_answers(Line(size), 1, Counter()))) == 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(3 << 21) < 1.2 * peak(3 << 20)


def test_zones_without_end_and_without_a_head_take_no_minutes():
    """Each begins a block, and none ends the part of the log that is read at once."""
    zone = "Node 0 DMA free:24kB min:172kB lowmem_reserve[]: 0 0 0 0 "
    begun = time.process_time()
    assert len(list(iter_answers(io.BytesIO(zone.encode() * 20_000), 1, Counter()))) == 1
    assert time.process_time() - begun < 15


def test_a_report_of_hundreds_of_nodes_is_answered():
    zone = "Node {0} Normal free:24kB min:172kB low:212kB high:252kB active_anon:0kB present:15992kB managed:15908kB\n"
    zones = "".join(zone.format(node) + "lowmem_reserve[]: 0 0 0 0\n" for node in range(600))
    (answer,) = fastalloc.explain("X: page allocation failure: order:2, mode:0x20\nMem-Info:\n" + zones)
    assert len(answer.decision.zones) == 600
    assert {zone.verdict for zone in answer.decision.zones} == {"below-mark"}
