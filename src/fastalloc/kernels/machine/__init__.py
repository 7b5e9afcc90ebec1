"""The tick of a whole machine: boot, run, observe, check."""
