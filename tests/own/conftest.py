"""Commands run as a user runs them."""

import time

import pytest

from fastalloc.scenario import trust
from tests.faults.conftest import fastalloc


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setenv(trust.TRUST, "0")  # and what --trust sets is unset after each test


@pytest.fixture
def still_clock(monkeypatch):
    """The time that a check may take does not pass: counts alone end it, and it finds the same on any machine."""
    monkeypatch.setattr(time, "process_time", lambda: 0.0)


__all__ = ["fastalloc"]
