"""SLUB of every era [mm/slub.c]."""
