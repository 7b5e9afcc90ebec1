"""Recorded operations: readers and replay."""
