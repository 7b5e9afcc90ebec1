"""Checks against recordings of real allocators: golden cases, layouts, watermarks."""
