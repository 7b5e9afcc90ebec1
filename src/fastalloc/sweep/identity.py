"""What a result is the result of: one SHA-256 over everything that determines it, and nothing else."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from fastalloc.scenario import Varied


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes.

    Raises:
        ValueError: the value holds a number that is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def point_identity(scenario: Varied, seed: int, model: str) -> str:
    """Identity of the lanes of one point, hexadecimal.

    Args:
        scenario: of one variant, resolved: every value as it runs, defaults included. Its ``run.lanes`` and
            ``run.seed`` are left out, since the number of lanes changes no lane and the seed is told by itself; a trace
            counts with its content, not its path.
        seed: of all randomness.
        model: digest of the model (``model_digest.model_digest``); another model, another identity.
    """
    resolved = scenario.model_dump(mode="json", exclude={"run": {"lanes", "seed"}, "trace": {"path"}})
    return _digest({"kind": "point", "scenario": resolved, "seed": seed, "model": model})


def task_identity(segments: Sequence[tuple[str, int, int]]) -> str:
    """Identity of a task, hexadecimal.

    Args:
        segments: (identity of a point, first lane, lane after the last), in the order of the task's rows.
    """
    return _digest({"kind": "task", "segments": [list(segment) for segment in segments]})


def sweep_identity(points: Sequence[str], rule: Any) -> str:
    """Identity of a whole sweep, hexadecimal: its points in order and the rule by which lanes are given to them."""
    return _digest({"kind": "sweep", "points": list(points), "rule": rule})


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
