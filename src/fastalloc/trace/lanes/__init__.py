"""A lane of a replay: caches, layout, start."""
