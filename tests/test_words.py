"""Words that are nobody's but ours stay out of the sources, the documentation and the tests."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = {".py", ".md", ".toml", ".html", ".json", ".css", ".sh"}
# Once names of things here; the field says: allocate, owner, adversary, the same lane under another variant.
COINED = re.compile(r"\b(purchas\w*|(?:\w*_)?bought\b|buyers?\b|squeez\w*|(?<![Cc][ _])twins\b)", re.IGNORECASE)
# A sense buffer that could not be allocated is a sense failure; what kernels count is described in their sources.
OTHER_NAMES = re.compile(r"sense fails\b|sense allocations? fail|failed sense|refused? (?:a |the |no )?sense buffer")
NAMED = ("docs", "src", "tests", "benchmarks", "results")


def texts():
    """What is written by hand, or made from it; data of others keeps its own words."""
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile"))
    for name in NAMED:
        for path in (ROOT / name).rglob("*"):
            inside = path.relative_to(ROOT).parts
            if path.suffix in KINDS and "data" not in inside and not {"_build", "reference"} & set(inside[:2]):
                yield path


def test_coined_words_do_not_return():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if COINED.search(line)
    ]
    assert not found, "\n".join(found)


def test_a_sense_failure_has_one_name():
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts()
        if path != Path(__file__) and path.suffix != ".json" and "kernels" not in path.parts
        for match in OTHER_NAMES.finditer(" ".join(path.read_text(encoding="utf-8").split()))
    ]
    assert not found, "\n".join(found)
    assert "| sense failure |" in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def test_the_pattern_finds_them_and_leaves_the_others():
    for word in ("bought", "slab_bought", "a purchase", "Buyer", "squeezed", "twins"):
        assert COINED.search(word), word
    for word in ("the C twin", "set apart", "owner", "kept apart"):
        assert not COINED.search(word), word
