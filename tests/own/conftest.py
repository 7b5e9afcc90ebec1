"""Commands run as a user runs them."""

import pytest

from fastalloc.scenario import trust
from tests.faults.conftest import fastalloc


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setenv(trust.TRUST, "0")  # and what --trust sets is unset after each test


__all__ = ["fastalloc"]
