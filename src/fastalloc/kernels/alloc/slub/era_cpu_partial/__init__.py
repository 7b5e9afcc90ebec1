"""SLUB as of 3.2 to 6.17: each CPU has partial slabs of its own, and a smaller order is tried second."""
