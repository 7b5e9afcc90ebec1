"""The adversary of tests/policies/measured.py is a machine like any other."""

import pytest

from tests.closed_loop.small import run
from tests.policies.measured import with_adversary


@pytest.mark.parametrize(("name", "strength"), [("rc8", "atomic"), ("fix", "reclaim"), ("pfmemalloc", "atomic")])
def test_an_adversary_loses_no_page_and_skips_as_others_do(name, strength):
    short = with_adversary(name, strength).with_settings({"run.duration_s": 4.0})
    run(short, 1, debug=True)
    assert run(short, 1).metrics.tolist() == run(short, 1, skip=False).metrics.tolist()
