"""Which model made a number: one digest over every file whose change can move one."""

import hashlib
from functools import cache
from pathlib import Path

# Raise it when numbers change for a reason that the files in the digest do not show.
MODEL_VERSION = 1

PACKAGE = Path(__file__).parent
SHOWS = ("api.py", "notebook.py", "replayed.py", "cli/", "report/", "sweep/sensitivity.py")  # what was computed
# What may stop early asks these for how many lanes are enough.
BUT = ("report/statistics.py", "report/poisson.py", "report/proportion.py", "report/hazard.py")


def _is_covered(path: Path) -> bool:
    """All code, and the data that code reads; presets are inputs, which results carry in their scenario."""
    name = path.as_posix()
    is_preset = name.startswith("scenario/") and path.suffix != ".py"
    return name in BUT or not (name.startswith(SHOWS) or is_preset or "__pycache__" in path.parts)


def model_files(package: Path = PACKAGE) -> list[Path]:
    """The files that the digest covers, relative to ``package``, sorted."""
    found = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
    return sorted(path for path in found if _is_covered(path))


@cache
def model_digest(package: Path = PACKAGE) -> str:
    """SHA-256 over ``MODEL_VERSION`` and the paths and contents of :func:`model_files`, hexadecimal.

    Equal digests, equal numbers: runs, sweeps and replays name it in what they write.
    """
    digest = hashlib.sha256(str(MODEL_VERSION).encode())
    for path in model_files(package):
        content = (package / path).read_bytes()
        digest.update(f"\0{path.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
