"""The documentation: its links lead somewhere, its commands exist and run, its pages are short, nothing is clipped."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs.blocks import blocks, read_block, run_block
from docs.figures import pages, with_figures
from docs.reference import PAGES

from docs import pictures, study_tables, terms
from fastalloc.cli.app import GROUPS, NAMES, build_command
from fastalloc.cli.explain import parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
KEPT = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts and path.parent.name != "reference")
RUN = [path for path in KEPT if blocks(path)]
# What simulates or replays takes seconds to minutes.
CHEAP = ("page-allocation-failure", "does-my-cache-merge")


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.fixture(scope="module")
def reference():
    """The pages that are made when the documentation is built."""
    return {f"{name}.md": made() for name, made in PAGES.items()}


@pytest.mark.parametrize("page", [*KEPT, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page, reference):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", target):
            assert "/tree/" not in target or "main" in target
        elif path:
            made = (page.parent / path).resolve()
            assert made.exists() or (made.parent == DOCS / "reference" and made.name in reference), target
        if heading and not path:
            lines = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
            assert heading in {re.sub(r"[^\w -]", "", line).replace(" ", "-") for line in lines}, target


@pytest.mark.parametrize("page", [page for page in RUN if page.stem in CHEAP], ids=lambda path: path.stem)
def test_commands_of_a_page_run(page, tmp_path):
    for block in blocks(page):
        run_block(block, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if page.stem not in CHEAP], ids=lambda path: path.stem)
def test_commands_of_a_page_that_simulate_run(page, tmp_path):
    for block in blocks(page):
        run_block(block, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in KEPT if "{code-cell}" in page.read_text()], ids=lambda path: path.stem
)
def test_cells_of_a_notebook_run(page, tmp_path):
    cells = re.findall(r"^```\{code-cell\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", "\n".join(cells)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tables_of_studies_are_those_of_their_results():
    for name, made in study_tables.tables().items():
        text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        assert all(f"<!-- {mark}: begin -->" in text for mark in made), name
        assert text == study_tables.page(name, made), f"{name}: run `make tables`"


def test_pictures_show_what_they_are_made_of():
    """Drawn from the results there are, a mark for each row, none of them without a place, light."""
    drawn = {path.stem: path.read_text(encoding="utf-8") for path in pictures.FOLDER.glob("*.svg")}
    assert set(drawn) == set(pictures.PICTURES)
    for name, svg in drawn.items():
        assert svg.endswith(f"<!-- {pictures.digest(pictures.PICTURES[name]().to_dict())} -->\n"), "run `make tables`"
        assert "NaN" not in svg
        assert len(svg) < 40_000
    assert all(f">{row['label']}</text>" in drawn["speed"] for row in pictures.speeds().to_dicts())
    shown = "".join(page.read_text(encoding="utf-8") for page in KEPT)
    assert all(f"_static/pictures/{name}.svg)" in shown for name in drawn)


def test_no_page_shows_a_directives_options_as_text():
    """On a forge, which shows plain Markdown, only what stands behind a fence's name is hidden."""
    for page in KEPT:
        assert not re.search(
            r"^```\{(?:command|file)\}[^\n]*\n:\w+:|^```\{picture\}", page.read_text(encoding="utf-8"), re.MULTILINE
        ), page
    assert "```{" not in (ROOT / "README.md").read_text(encoding="utf-8")


def test_figures_in_sentences_are_those_of_the_results():
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^\s*<!--=", text, re.MULTILINE), f"{page}: Markdown takes such a line for HTML"
        assert text == with_figures(text), f"{page}: run `make tables`"


# Numbers that nobody measured: what is asked for, what is set, what a kernel's source says, how a method is run.
GIVEN = {
    "closed-loop-truth": {"10 %", "15 %"},
    "how-fast": {"1,000"},
    "machine": {"4,096"},
    "mempool-refill": {"2,048"},
    "min-free-kbytes": {"2,000"},
    "policies-allocators": {"1,000"},
    "policies-measured": {"1,024"},
    "rare": {"0.05", "40 times", "60 times"},
    "rare-study": {"2,048", "2,866", "5,000"},  # kB that machines boot with, pages a second
    "speed": {"100 times", "1000 times", "2500 times", "1.3 times", "000 times"},
    "sweeps": {"2.5 MB"},
    "record-and-replay": {"0.2 s"},
}
MEASURED = re.compile(
    r"\b\d[\d,.]* of \d[\d,.]*\b|\b\d[\d.]* ?%|\b[1-9]\d{0,2}(?:,\d{3})+\b|\b\d[\d.]* (?:times|M events/s|\w+-hours)\b"
    r"|\b\d+\.\d+ (?:s|ms|[MG]i?B|GB/s)\b|\b0\.\d{2,}\b"
)


def typed(text):
    """What stands in sentences and tables outside of commands, made tables and figures from results/."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!-- ([\w -]+): begin -->.*?<!-- \1: end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--=[^>]*-->[^<\n]*<!--/-->", "figure", text)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "code", text)


@pytest.mark.parametrize("page", [*KEPT, ROOT / "README.md"], ids=lambda path: path.stem)
def test_no_measured_figure_is_typed(page):
    """A figure comes from results/ (docs/figures.py), or stands in a block that is run."""
    given = GIVEN.get(page.stem, set()) | {"95 %"}  # the level of every interval
    text = typed(page.read_text(encoding="utf-8"))
    found = [match[0] for match in MEASURED.finditer(text) if match[0] not in given]
    assert found == []
    for table in re.findall(r"^\|[-:| ]*---:[-:| ]*\n((?:\|.*\n)*)", text, re.MULTILINE):
        cells = [cell.strip() for line in table.splitlines() for cell in line.split("|")[2:]]
        assert not [cell for cell in cells if re.fullmatch(r"[\d,.]+ ?%?", cell)], "a table of figures without marks"


def test_the_pattern_of_figures_finds_them():
    for text in ("on 27 of 192 machines", "1.04 % too many", "52,764 pages", "3 times", "0.94 of it", "183 M events/s"):
        assert MEASURED.search(typed(text)), text
    for text in ("<!--=small rank lanes-->480<!--/--> lanes", "`0.94 %`", "128 bytes", "2.6.25", "order 3"):
        assert not MEASURED.search(typed(text)), text


def words_of(text):
    """Words that a reader sees, tables and commands among them; without the bars of tables and without comments."""
    return sum(any(map(str.isalnum, word)) for word in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split())


def command_lines():
    """Every line of a code block, in any page, that begins with ``fastalloc``."""
    for page in [*KEPT, ROOT / "README.md"]:
        for fence in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            for line in fence.replace("\\\n", " ").splitlines():
                found = re.match(r"^(?:\$ |sudo )*(fastalloc [^#|>&]*)", line)
                if found:
                    yield pytest.param(found[1].strip(), id=f"{page.stem}: {found[1].strip()[:60]}")


@pytest.mark.parametrize("line", [*command_lines()])
def test_commands_and_options_exist(line):
    words = shlex.split(re.sub(r"\[.*?\]|\.\.\.", "", line))[1:]
    if not words or words[0].startswith("-") or words[0].isupper():
        return
    assert words[0] in NAMES, f"no command {words[0]}"
    if words[0] == "explain":
        known = set(parser()._option_string_actions)
    else:
        command = build_command(words[0]).commands[words[0]]
        if words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-"):
            command = command.commands[words[1]]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    if words[0] == "record" and "--" in words:
        asked = {word for word in words[: words.index("--")] if word.startswith("-")}
    assert asked <= known | {"-h", "--help"}, asked - known


@pytest.mark.parametrize("page", KEPT, ids=ids(KEPT))
def test_no_page_is_long(page):
    assert words_of(page.read_text(encoding="utf-8")) <= 2500


def test_the_reference_is_whole_and_no_page_of_it_long(reference):
    text = "\n".join(reference.values())
    for name in NAMES:
        assert f"## fastalloc {name}\n" in text
    for name, page in reference.items():
        assert words_of(page) <= 2500, name
    assert "| `copiers` | whole number from 0 to 1024 | `48` | tasks that copy" in text
    assert "| C2 | `fix` |" in text
    assert "| `6.18` | Linux 6.18" in text


def test_tutorials_and_guides_fit_the_window():
    """A block of commands is at most as wide as its page."""
    for page in RUN:
        for block in blocks(page):
            assert all(len(line) <= 120 for line in block.text.splitlines()), (page, block.line)


def test_python_blocks_are_run_in_a_fresh_interpreter(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```{command} exit=2\nfastalloc rnu\n```\n")
    first, second = blocks(page)
    assert run_block(first, tmp_path) == "2"
    assert run_block(second, tmp_path) == ""
    with pytest.raises(RuntimeError, match="exit code 2"):
        run_block(second._replace(options={}), tmp_path)
    with pytest.raises(ValueError, match="line 3: hed=3: options are exit"):
        read_block("command", "hed=3", "fastalloc", 3)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as it is built, warnings as errors."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", DOCS, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(site):
    assert (site / "searchindex.js").exists()
    assert "<svg" in (site / "index.html").read_text(encoding="utf-8")
    page = (site / "swap-livelock-7.3.html").read_text(encoding="utf-8")
    glossary = (site / "glossary.html").read_text(encoding="utf-8")
    led = set(re.findall(r'href="glossary\.html#(term-[\w-]+)"', page))
    assert {"term-bio", "term-sheaf"} <= led
    assert all(f'id="{anchor}"' in glossary for anchor in led)


# How far a page goes to the right, and code that neither wraps nor scrolls.
BESIDE = """() => [document.documentElement.scrollWidth - document.documentElement.clientWidth,
  [...document.querySelectorAll("pre")].filter((code) => code.scrollWidth > code.clientWidth + 1
    && ![code, code.parentElement].some((each) => /auto|scroll/.test(getComputedStyle(each).overflowX))).length]"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_is_wider_than_a_phone_and_no_code_is_cut(site, width):
    playwright = pytest.importorskip("playwright.sync_api", reason="the group `browser` is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here")
    wrong = {}
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        for path in sorted(site.rglob("*.html")):
            page.goto(f"file://{path}")
            beside, cut = page.evaluate(BESIDE)
            if beside > 1 or cut:
                wrong[str(path.relative_to(site))] = (beside, cut)
        browser.close()
    assert wrong == {}


def test_the_first_use_of_a_term_leads_to_the_glossary():
    left = terms.forms()
    pieces = terms.marked("Bios lie in slabs of SLUB, a bio beside a sense buffer; sheaves since 6.18. In order.", left)
    assert [piece[0] for piece in pieces if not isinstance(piece, str)] == [
        "Bios",
        "slabs",
        "SLUB",
        "sense buffer",
        "sheaves",
    ]
    assert "sheaf" not in left
    assert left["barn"].meaning.startswith("since 6.18: the full and empty sheaves")
    assert terms.marked("bio, slab/SLUB", left) == ["bio, slab/SLUB"], "each once"
