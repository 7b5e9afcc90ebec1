"""The commands of ``fastalloc``, each imported when it is asked for."""

import re
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fastalloc.cli.usage import answered
from fastalloc.errors import InputError, meant

if TYPE_CHECKING:
    from collections.abc import Callable

# A command is a module of fastalloc.cli with a function of its name, a group one with ``<name>_app``. Only the module
# of the command that was asked for is imported.
SECTIONS = {
    "Simulate": ("run", "compare", "sweep", "frontier", "reserve", "rare", "scenarios", "policies", "policy", "init"),
    "Look at what was simulated": ("report", "rerun", "rewind", "decided", "sensitivity", "dataset"),
    "From your own kernel": ("explain", "caches", "record", "replay", "trace", "machine"),
    "About fastalloc": ("verify", "bench", "schema"),
}
GROUPS = ("dataset", "machine", "policy", "scenarios", "trace")
NAMES = tuple(name for names in SECTIONS.values() for name in names)


class Group(TyperGroup):
    """Commands by section, each with its whole first sentence; a command that is misspelt is guessed."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands of the help page."""
        sections = SECTIONS if ctx.parent is None else {"Commands": tuple(self.list_commands(ctx))}
        for heading, names in sections.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, first_sentence(command.help or "")) for name, command in commands if command is not None]
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=max(map(len, NAMES)))

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """The command that ``args`` names.

        Raises:
            InputError: there is none of the name.
        """
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            path = " ".join(["fastalloc", *([] if ctx.parent is None else [str(ctx.info_name)])])
            lists = f"; `{path} --help` lists them" if ctx.parent is None else f"; there is: {', '.join(known)}"
            raise InputError(path, "", f"no command {args[0]!r}{meant(args[0], known) or lists}")
        return super().resolve_command(ctx, args)


def first_sentence(text: str) -> str:
    """The first sentence of a help text."""
    return re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0]


def build_app(*wanted: str) -> "Callable[[], Any]":
    """The command line with some of the commands; with all of them where none is named or one does not exist."""
    command = build_command(*wanted)
    return lambda: answered(command)


def build_command(*wanted: str) -> Any:
    """The parser behind ``build_app``."""
    known = set(wanted) and set(wanted) <= set(NAMES)
    app = typer.Typer(
        cls=Group,
        help="A wind tunnel for kernel memory allocation under pressure: will this kernel keep making progress when "
        "memory runs out?",
        epilog="`fastalloc run swap-livelock` shows the livelock of April 2008 in a minute; `fastalloc COMMAND -h` "
        "tells of a command.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in NAMES:
        if not known or name in wanted:
            if name in GROUPS:
                app.add_typer(getattr(import_module(f"fastalloc.cli.{name}"), f"{name}_app"), name=name, cls=Group)
            elif name == "explain":
                app.command(name, context_settings=_RAW)(explain)
            else:
                app.command(name)(getattr(import_module(f"fastalloc.cli.{name}"), name))
    app.callback()(_options)
    command = typer.main.get_command(app)
    _name_values(command)
    return command


def _name_values(command: Any) -> None:
    """Each value of the help page by its own name, not by its type."""
    for parameter in command.params:
        if parameter.metavar is None and not getattr(parameter, "is_flag", False):
            parameter.metavar = parameter.name.upper().rstrip("_").replace("_", "-")
        if parameter.param_type_name == "argument":
            _name_argument(parameter)
    for inner in getattr(command, "commands", {}).values():
        _name_values(inner)


def _name_argument(argument: Any) -> None:
    """Whatever typer's version makes of an argument: ``FILE``, ``[FILE]``, ``FILE...``."""
    name, record = argument.metavar.strip("[].") + ("" if argument.nargs == 1 else "..."), argument.get_help_record

    def help_record(ctx: Any) -> tuple[str, str] | None:
        found = record(ctx)
        return found and (name, found[1].replace("[required]", "").strip())

    argument.get_help_record = help_record
    argument.get_usage_pieces = lambda ctx: [name if argument.required else f"[{name}]"]


# `main` runs this command without typer, which takes longer to start than the answer: its options are argparse's.
_RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def explain(context: typer.Context) -> None:
    """Explain page allocation failures, OOM, SLUB and vmalloc reports of Linux 2.6.9 to 7.x."""
    from fastalloc.cli.explain import run

    run(context.args)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fastalloc {version('fastalloc')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
