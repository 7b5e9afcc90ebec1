"""The state of a lane, its CPUs, its random numbers, what it reports."""
