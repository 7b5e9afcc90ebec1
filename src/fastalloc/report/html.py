from pathlib import Path


def write_report(dataset, out=None):
    return Path("x")
