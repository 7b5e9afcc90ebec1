"""Code that a file of others carries: a policy's source in a scenario, a sweep or a dataset. It runs where trusted.

What a user names on the command line, or sets from Python, is the user's own.
"""

import hashlib
import os
from collections.abc import Mapping
from types import MappingProxyType

from fastalloc.errors import InputError
from fastalloc.scenario.varied import Varied

TRUST = "FASTALLOC_TRUST"  # 1: code that files carry may run


def trust_carried_code() -> None:
    """Let this process and its workers run the code that files carry."""
    os.environ[TRUST] = "1"


def refuse_code(scenario: Varied, path: object, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise InputError where the scenario of a file, a variant of it or ``more`` carries a policy's source."""
    if os.environ.get(TRUST) == "1":
        return
    carried = {"policy.questions": scenario.own[0]}
    carried |= more
    carried |= {
        f"variant {variant.name}: policy.questions": str(variant.set.get("policy.questions") or "")
        for variant in scenario.variants
    }
    for where, source in carried.items():
        if source:
            digest = hashlib.sha256(source.encode("utf-8", "backslashreplace")).hexdigest()
            raise InputError(
                path,
                where,
                f"carries {len(source.splitlines())} lines of Python (SHA-256 {digest[:16]}) that would be run; "
                "read them, then give --trust",
            )
