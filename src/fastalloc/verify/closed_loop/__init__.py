"""The closed loop held against clean runs of a real kernel: a folder with ``runs.csv``, one row a run."""
