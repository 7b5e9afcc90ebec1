"""The first use of a term of docs/glossary.md on a page leads there, and its meaning stands under the pointer."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes

PAGE = "glossary"
# Words of a row that mean other things in plain sentences.
PLAIN = {
    "batch",
    "depth",
    "high",
    "low",
    "min",
    "order",
    "plug",
    "replay",
    "request",
    "slot",
    "stall",
    "task",
    "unplug",
}
# Other forms than with -s.
FORMS = {"sheaf": ("sheaves",), "merging": ("merge", "merges", "merged")}
_ASIDE = (nodes.literal, nodes.literal_block, nodes.reference, nodes.title, nodes.raw, nodes.Invisible)


class Term(NamedTuple):
    """``word`` as it stands in sentences, ``anchor`` of its row, ``meaning`` as plain text."""

    word: str
    anchor: str
    meaning: str


@cache
def terms(page: Path = Path(__file__).with_name(f"{PAGE}.md")) -> tuple[Term, ...]:
    """Every word of the glossary's tables, the longest first."""
    found = []
    for row in re.findall(r"^\| (.*?) \| (.*?) \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        head, meaning = row
        if head == "word":
            continue
        plain = re.sub(r"[*`]|\s*\[[^\]]*\]$", "", meaning)
        words = [word.strip() for word in re.split(r"[,:]", head) if word.strip(" .")]
        found += [Term(word, anchor(head), plain) for word in words if word.lower() not in PLAIN]
    return tuple(sorted(found, key=lambda term: -len(term.word)))


def anchor(head: str) -> str:
    """Where the row of the glossary is that begins so."""
    return "term-" + re.sub(r"\W+", "-", head.lower()).strip("-")


def marked(text: str, left: dict[str, Term]) -> list[str | tuple[str, Term]]:
    """``text`` in pieces; a term at its first use is a piece of its own, and all its forms go out of ``left``.

    ``left``: the terms not yet used, by the form that they have in sentences; a small first letter may be a capital.
    """
    if not left:
        return [text]
    words = "|".join(re.escape(word) for word in sorted(left, key=len, reverse=True))
    found: list[str | tuple[str, Term]] = []
    begin = 0
    for match in re.finditer(rf"(?<![\w./-])(?i:({words}))s?(?![\w/-])", text):
        form = match[1] if match[1] in left else match[1][0].lower() + match[1][1:]
        if form in left:
            term = left[form]
            for other in [each for each in left if left[each].anchor == term.anchor]:
                del left[other]
            found += [text[begin : match.start()], (match[0], term)]
            begin = match.end()
    return [piece for piece in (*found, text[begin:]) if piece]


def forms() -> dict[str, Term]:
    """Every term by each of its forms."""
    return {form: term for term in terms() for form in (term.word, *FORMS.get(term.word, ()))}


def _explain(app: Any, tree: nodes.document, page: str) -> None:
    if page == PAGE:
        for row in tree.findall(nodes.row):
            row[0]["ids"].append(anchor(row[0].astext()))
        return
    left = forms()
    target = app.builder.get_relative_uri(page, PAGE)
    for text in list(tree.findall(nodes.Text)):
        above, aside = text.parent, False
        while above is not None:
            aside = aside or isinstance(above, _ASIDE)
            above = above.parent
        pieces = [] if aside else marked(text.astext(), left)
        if len(pieces) > 1 or (pieces and not isinstance(pieces[0], str)):
            made: list[nodes.Node] = []
            for piece in pieces:
                if isinstance(piece, str):
                    made.append(nodes.Text(piece))
                else:
                    word, term = piece
                    uri = f"{target}#{term.anchor}"
                    made.append(
                        nodes.reference("", word, internal=True, refuri=uri, reftitle=term.meaning, classes=["term"])
                    )
            text.parent.replace(text, made)


def setup(app: Any) -> dict[str, Any]:
    """For Sphinx."""
    app.connect("doctree-resolved", _explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
