"""Scenarios that are the same machine: what tells their policies apart reaches no array that a kernel reads."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fastalloc.batch.lane import build_lane
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.varied import Varied

BESIDE_POLICY = set(Scenario.model_fields) - set(Varied.model_fields) - {"policy"}
SMALL_BYTES = 1 << 16  # arrays up to this size are looked at first: few machines are equal in all of them


def first_alike(scenarios: Sequence[Scenario], lane: int, seed: int) -> list[int]:
    """For each scenario the index of the first one that is the same machine, its own where there is none before it.

    The same machine: all but the policy is equal by the scenarios' own fields, and ``lane`` starts with equal arrays,
    byte by byte. A lane's number and the seed reach its arrays as such and through draws that no policy changes, so
    what holds for one lane holds for all.
    """
    alike = defaultdict(list)
    for i, scenario in enumerate(scenarios):
        rest = scenario.model_dump_json(include=BESIDE_POLICY)
        alike[rest, scenario.policy.allocator, *map(str, scenario.policy.own)].append(i)
    groups = list(alike.values())
    for most_bytes in (SMALL_BYTES, None):
        finer: list[list[int]] = []
        for group in groups:
            equal = defaultdict(list)
            for i in group if len(group) > 1 else ():
                equal[_digest(scenarios[i], lane, seed, most_bytes)].append(i)
            finer += equal.values()
        groups = finer
    first = list(range(len(scenarios)))
    for group in groups:
        for i in group:
            first[i] = group[0]
    return first


def _digest(scenario: Scenario, lane: int, seed: int, most_bytes: int | None) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for group in build_lane(scenario, lane, seed):
        for name, array in zip(group._fields, group, strict=True):
            digest.update(f"{type(group).__name__}.{name} {array.dtype} {array.shape}".encode())
            if most_bytes is None or array.nbytes <= most_bytes:
                digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
