"""SLOB of 2.6.25 [mm/slob.c]."""
