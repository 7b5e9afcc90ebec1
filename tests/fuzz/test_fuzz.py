"""A few mutations of every target; `make fuzz` runs as many as time allows."""

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

QUICK = 6  # of each; a case of `golden` is run whole


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"scenario", "golden", "golden-table", "sheaves"}))
def test_readers_refuse_or_read(name, tmp_path):
    keep = tmp_path / "keep"
    keep.mkdir()
    tried, found = fuzz(name, 20.0, 1, QUICK, tmp_path, keep)
    assert tried > 0
    assert found == 0, [file.read_text() for file in keep.glob("*.why")]
