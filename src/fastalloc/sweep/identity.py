"""What a result is the result of: one SHA-256 over everything that determines it, and nothing else."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from fastalloc.scenario import Varied

_LEFT_OUT: Any = {"run": {"lanes", "seed"}, "trace": {"path"}}


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
    return Identities(seed, model).of(scenario)


class Identities:
    """Identities of many points (see ``point_identity``). Tables that points share are written as JSON once."""

    def __init__(self, seed: int, model: str) -> None:
        self._rest = canonical_json({"seed": seed}), canonical_json({"kind": "point", "model": model})
        self._known: dict[str, tuple[Any, bytes]] = {}

    def of(self, scenario: Varied) -> str:
        """The identity of a point."""
        tables = [
            b"%s:%s" % (canonical_json(name), self._json(scenario, name))
            for name in sorted(type(scenario).model_fields)
        ]
        seed, rest = self._rest
        whole = b'%s,"scenario":{%s},%s' % (rest[:-1], b",".join(tables), seed[1:])
        return hashlib.sha256(whole).hexdigest()

    def _json(self, scenario: Varied, name: str) -> bytes:
        """A table of a scenario, written anew where it is not that of the scenario before."""
        value = getattr(scenario, name)
        known = self._known.get(name)
        if known is None or known[0] is not value:
            dumped = scenario.model_dump(mode="json", include={name}, exclude=_LEFT_OUT)
            known = self._known[name] = value, canonical_json(dumped[name])
        return known[1]


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
