"""An entry and its parts are one program, whatever of it is simplified away."""

from fastalloc.compiler.jit import entry, internal, out_of_line

NEVER = False


@internal
def tripled(x):
    out_of_line()
    return 3 * x


@internal
def first(x):
    """Its call of ``tripled`` is gone when the program is linked."""
    if NEVER:
        return tripled(x)
    return x + 1


@internal
def second(x):
    out_of_line()
    return tripled(x) + 1


@entry
def both(x):
    return first(x) + second(x)


def test_a_part_is_linked_whose_first_caller_calls_it_no_more():
    assert both(5) == 6 + 16
