"""The columns of a policy: what kernels ask for while a lane runs.

Each control array (``mem.ctl``, ``io.ctl``, ``vm.ctl``) ends with them, so whoever has one of these can ask:
``mem.ctl[POLICY.reclaim_gate]``. They are the fields of :class:`fastalloc.policy.Policy` that are marked ``ASKED``, in
its order: a flag is 0 or 1, a choice its number among the choices.
"""

from typing import Any, Literal, get_args, get_origin

import numpy as np

from fastalloc.compiler.records import Record, field
from fastalloc.policy import ASKED, Policy

FIRST = 256  # column; what the control arrays hold themselves is before it


def choices(name: str) -> tuple[str, ...]:
    """What a field of the policy may be, in the order of their numbers; empty for a number or a flag."""
    kind = Policy.model_fields[name].annotation
    return get_args(kind) if get_origin(kind) is Literal else ()


_ASKED = [name for name, info in Policy.model_fields.items() if ASKED in info.metadata]
# A record as any other, made from the fields; mypy cannot know their names.
POLICY: Any = type(Record)(  # type: ignore[misc]
    "POLICY",
    (Record,),
    {
        "__module__": __name__,
        "__doc__": "mem.ctl[.], io.ctl[.], vm.ctl[.]: the answers of the policy.",
        **{
            name: field(f"policy.{name} of the scenario", source="fastalloc/policy.py", at=None if place else FIRST)
            for place, name in enumerate(_ASKED)
        },
    },
)


def columns(policy: Policy) -> np.ndarray:
    """The columns ``FIRST`` to ``POLICY.width`` of a control array: int64."""
    given = []
    for name in _ASKED:
        value = getattr(policy, name)
        given.append(choices(name).index(value) if isinstance(value, str) else int(value))
    return np.array(given, np.int64)
