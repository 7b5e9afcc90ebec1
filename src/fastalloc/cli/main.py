"""Entry point of the ``fastalloc`` command."""

import sys

from fastalloc.cli import border, interrupt


def app() -> None:
    """Runs the command that the command line names, and imports no other."""
    if sys.argv[1:2] == ["explain"]:  # answers at once: without typer and what it imports
        from fastalloc.cli.explain import run

        run(sys.argv[2:])
    else:
        from fastalloc.cli.app import build_app

        build_app(*sys.argv[1:2])()


def main() -> None:
    """A command in a thread, so that signals are heard; see ``border`` for how it may end."""
    with border.safe_streams():
        code = interrupt.run(lambda: border.ended(app))
    sys.exit(code)


if __name__ == "__main__":
    main()
