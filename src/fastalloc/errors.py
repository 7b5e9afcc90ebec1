"""Bad input, said in one line."""

from collections.abc import Sequence


class InputError(ValueError):
    """Something the user gave cannot be used.

    Args:
        path: the file (or preset, or option) that holds it.
        where: the line, field or section inside it; empty when the whole of it is meant.
        message: what is wrong.
        more: further faults of the same input; ``str()`` gives each its own line.
    """

    def __init__(self, path: object, where: str, message: str, more: Sequence["InputError"] = ()) -> None:
        super().__init__(path, where, message)
        self.path = str(path)
        self.where = where
        self.message = message
        self.more = tuple(more)

    def __str__(self) -> str:
        line = ": ".join(" ".join(part.split()) for part in (self.path, self.where, self.message) if part)
        return "\n".join([line, *map(str, self.more)])
