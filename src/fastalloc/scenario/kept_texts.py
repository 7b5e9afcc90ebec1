"""Texts of files of one's own that a folder was begun with: what goes on there runs them, not the files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError
from fastalloc.own.allocator_text import own_source


class KeptTexts:
    """Such texts, by the name of their file; it takes note of files that hold another text now, or are gone.

    Args:
        policies: fields of ``Policy`` as a manifest has them.
    """

    def __init__(self, policies: Iterable[Mapping[str, Any]] = ()) -> None:
        own = [fields for fields in policies if fields.get("questions")]
        self._kept = {str(fields["questions_file"]): str(fields["questions"]) for fields in own}
        self.others: list[Path] = []  # each once, in the order in which they were asked for

    def of(self, path: Path) -> str | None:
        """The text to run in place of a file's own; None where the folder has none."""
        text = self._kept.get(path.name)
        if text is not None and path not in self.others and text != _text_of(path):
            self.others.append(path)
        return text

    def told(self, folder: object) -> list[str]:
        """A line a file that holds another text now, for whoever goes on in ``folder``."""
        goes_on = f"{folder} goes on with the text that it was begun with"
        return [
            f"{file}: {goes_on}, which is another" if file.is_file() else f"{file}: no such file now; {goes_on}"
            for file in self.others
        ]


def _text_of(file: Path) -> str | None:
    """None where it is gone or cannot be read."""
    try:
        return own_source(file) if file.is_file() else None
    except InputError:
        return None


NO_TEXTS = KeptTexts()
