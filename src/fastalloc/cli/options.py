"""What several commands share: settings given as text, a lane of a dataset."""

import tomllib
from collections.abc import Sequence
from typing import Any

from fastalloc.errors import InputError, told


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """``["policy.command_rule=fix"]`` as ``{"policy.command_rule": "fix"}``; values are TOML, or else plain text."""
    settings = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals):
            raise InputError("--set", text, "must be key=value, such as policy.command_rule=fix")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
        except (ValueError, RecursionError) as error:
            raise InputError("--set", text, told(error)) from None
    return settings
