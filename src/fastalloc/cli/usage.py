"""Options and arguments that a command does not take, told in the same words as faults of files."""

import re
import sys
from typing import Any, NoReturn

from fastalloc.errors import InputError, in_words, meant


def answered(command: Any) -> None:
    """Runs the command that the command line names.

    Raises:
        InputError: an option, an argument or a value that it does not take.
        SystemExit: it ended with another code than 0.
    """
    try:
        code = command.main(prog_name="fastalloc", standalone_mode=False)
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}  # typer brings its own click, or not, by its version
        if "UsageError" not in kinds:
            raise
        if "NoArgsIsHelpError" in kinds:
            error.show()  # type: ignore[attr-defined]
            raise SystemExit(2) from None
        _refuse(error, kinds)
    if isinstance(code, int) and code:
        raise SystemExit(code)


def _refuse(error: Any, kinds: set[str]) -> NoReturn:
    context, option = error.ctx, getattr(error, "option_name", None)
    path = context.command_path if context is not None else " ".join(["fastalloc", *sys.argv[1:2]])
    see = f"; see `{path} -h`"
    parameter = getattr(error, "param", None)
    if "MissingParameter" in kinds and parameter is not None:
        raise InputError(path, _name(parameter), f"is missing{see}") from None
    if "BadParameter" in kinds and parameter is not None:
        value = _given(parameter.opts, sys.argv) if parameter.param_type_name == "option" else ""
        raise InputError(_name(parameter), value, in_words(error.message)) from None
    if "NoSuchOption" in kinds:
        known = [name for each in context.command.params for name in (*each.opts, *each.secondary_opts)]
        near = meant(str(option), [name for name in known if name.startswith("--")])
        raise InputError(path, str(option), f"no such option{near or see}") from None
    if option is not None:
        takes = "takes no value" if "not take a value" in error.message else "needs a value"
        raise InputError(path, str(option), f"{takes}{see}") from None
    extra = re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message)
    if extra:
        raise InputError(path, extra[1], f"not expected{see}") from None
    raise InputError(path, "", f"{error.message.rstrip('.')[:1].lower()}{error.message.rstrip('.')[1:]}{see}") from None


def _name(parameter: Any) -> str:
    """``--lanes``, or ``FILE``."""
    return str(max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar)


def _given(names: list[str], words: list[str]) -> str:
    """The value that the command line gives an option."""
    for name, value in zip(words, [*words[1:], ""], strict=True):
        if name in names:
            return value
        if name.partition("=")[0] in names:
            return name.partition("=")[2]
    return ""
