"""A number without end in a report takes no time without end, and one of nothing divides nothing."""

import time

import pytest

from fastalloc.explain import explain
from fastalloc.explain.reports import unknown_lines
from tests.fuzz.targets import DATA


@pytest.mark.parametrize(
    "line", ["9" * 50_000 + "x", "f" * 50_000, " " * 50_000 + "g", "0123456789abcdef " * 4000 + "g"]
)
def test_a_line_of_digits_is_soon_told(line):
    begun = time.process_time()
    assert unknown_lines(line) in (0, 1)
    assert time.process_time() - begun < 60


def test_words_of_a_stack_are_known():
    assert unknown_lines(" ffff88003d8fd9a8 ffffffff8170f4c7\n00000000 c10e8f4b 00000010") == 0


def test_a_list_of_blocks_of_nothing_divides_nothing():
    found = 0
    for file in sorted((DATA / "memory_reports").glob("*/*.txt"))[:40]:
        text = file.read_text(errors="replace")
        if "*4kB" in text:
            found += len(explain(text.replace("*4kB", "*0kB")))
    assert found > 0


@pytest.mark.parametrize("digits", [19, 20, 5000])
@pytest.mark.parametrize("place", ["lowmem_reserve[]:", "order="])
def test_a_number_that_no_kernel_prints_takes_nothing_else_with_it(place, digits):
    text = (DATA / "memory_reports/061-6.8-boot-oom/input.txt").read_text(errors="replace")
    assert place in text
    found = explain(text.replace(place, f"{place} {'7' * digits}".replace("= ", "="), 1) + text)
    assert len(found) == 2
