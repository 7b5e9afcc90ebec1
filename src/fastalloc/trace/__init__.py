"""Recorded operations: readers and replay."""

from fastalloc.called import can_be_called

can_be_called(__name__, "fastalloc.api", "trace")
