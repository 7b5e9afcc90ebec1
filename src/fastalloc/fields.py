"""What the fields of a user's files are made of."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, le=1 << 31)]
Positive = Annotated[int, Field(ge=1, le=1 << 31)]
Nanoseconds = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Model(BaseModel):
    """Base of everything a scenario is made of: no unknown keys, no silent conversion, no change after the fact."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def rows_html(words: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A line of words and a table, as a notebook shows them."""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<p>{escape(words)}</p><table><tr>{head}</tr>{body}</table>"
