"""Processes forked from one that has fastalloc loaded: the threads of Polars and Arrow are not copied along, and what
waits for them waits for ever. What needs them is refused there; workers are to be spawned.
"""

import os

from fastalloc.errors import InputError

_forked: list[int] = []


def _note() -> None:
    _forked.append(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note)


def refuse_forked(what: str) -> None:
    """Raise InputError in a process that was forked after fastalloc was loaded; ``what`` cannot be done there."""
    if _forked:
        raise InputError(
            what,
            "",
            "cannot be used in a forked process, which has none of the threads of Polars and Arrow: start workers with "
            'multiprocessing.get_context("spawn")',
        )
