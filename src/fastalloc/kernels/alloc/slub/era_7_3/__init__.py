"""SLUB as of 7.2 and 7.3: every cache has sheaves, and below them are the lists of nodes alone."""
