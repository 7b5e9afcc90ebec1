"""A count with its noun."""


def plural(count: int, one: str, several: str = "") -> str:
    """``1 lane``, ``4,574 lanes``; ``several`` where it is not ``one`` with an s."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
