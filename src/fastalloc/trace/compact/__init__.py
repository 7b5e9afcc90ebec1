"""The compact trace and the way into it."""
