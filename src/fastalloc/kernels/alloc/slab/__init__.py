"""SLAB of 2.6.25 [mm/slab.c]."""
