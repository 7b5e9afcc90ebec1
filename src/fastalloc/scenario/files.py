"""Files that a user writes: TOML, named presets or paths."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastalloc.bounded import decoded
from fastalloc.errors import InputError, meant, reader
from fastalloc.foreign import content_of

MOST_BYTES = 1 << 22  # of a TOML file
MOST_VALUES = 50_000  # of it: what takes half a second to parse
MOST_WORD = 10_000  # characters of a number or a key: Python takes a hundred times as much to read one
_BETWEEN = re.compile(r"[\s\"'#=\[\]{},:;()\\-]+")
# Strings and comments, in which nothing counts; or what stands before a value or a table.
_COUNTED = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|(?P<mark>[=\[{,.])', re.DOTALL
)


def find(name_or_path: str | Path, folder: Path, what: str, names: list[str], others: Sequence[str] = ()) -> Path:
    """The file of a preset in ``folder``, or the path as it is; ``others``: names that may have been meant too.

    Raises:
        InputError: neither a preset nor a file.
    """
    text = str(name_or_path)
    if text in names:
        return folder / f"{text}.toml"
    path = Path(name_or_path)
    if path.is_dir():
        raise InputError(path, "", f"is a folder, not a {what} file")
    if not path.exists():
        near = meant(text, [*names, *others])
        raise InputError(path, "", f"no such {what}{near}: neither a file nor one of {', '.join(names)}")
    return path


@reader("not TOML")
def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data.

    Raises:
        InputError: unreadable, not UTF-8, not TOML.
    """
    try:
        text = decoded(content_of(path, MOST_BYTES), "strict")
        if sum(found["mark"] is not None for found in _COUNTED.finditer(text)) > MOST_VALUES:
            raise InputError(path, "", f"holds more than {MOST_VALUES:,} values and tables")
        if max(map(len, _BETWEEN.split(text))) > MOST_WORD:
            raise InputError(path, "", f"holds a number or word of more than {MOST_WORD:,} characters")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(path, "", f"not TOML: {error}") from None
