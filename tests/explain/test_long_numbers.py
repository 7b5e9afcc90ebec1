"""A number without end in a report takes no time without end."""

import time

import pytest

from fastalloc.explain.reports import unknown_lines


@pytest.mark.parametrize("line", ["9" * 5000 + "x", "f" * 5000, " " * 5000 + "g", "0123456789abcdef " * 400 + "g"])
def test_a_line_of_digits_is_soon_told(line):
    begun = time.process_time()
    assert unknown_lines(line) in (0, 1)
    assert time.process_time() - begun < 1.0


def test_words_of_a_stack_are_known():
    assert unknown_lines(" ffff88003d8fd9a8 ffffffff8170f4c7\n00000000 c10e8f4b 00000010") == 0
