"""What a release says of itself, in one place each."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_changelog_begins_with_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = [line[3:] for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == project["version"]
    assert headings == sorted(headings, key=lambda text: tuple(map(int, text.split("."))), reverse=True)


def test_the_version_stands_in_one_place():
    """Nowhere but in pyproject.toml: not in the package, the citation or the documentation."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    told = [path for path in (ROOT / "src").rglob("*.py") if f'"{version}"' in path.read_text(encoding="utf-8")]
    assert told == []
    assert version not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    import fastalloc

    assert re.fullmatch(r"\d+\.\d+\.\d+.*", fastalloc.__version__)


def test_the_readme_is_one_screen_whose_figures_are_made():
    from docs import readme

    text = readme.README.read_text(encoding="utf-8")
    assert text == readme.text(), "run `make tables`"
    assert text.count("\n") <= 75


def test_on_a_package_index_no_link_leads_nowhere():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for rule in settings["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert not re.findall(r"\]\((?!https?:)", text)
    assert "![" not in text
    assert "A livelock, a fix, and where the fix breaks" in text


def test_types_are_shipped():
    assert (ROOT / "src" / "fastalloc" / "py.typed").is_file()


@pytest.mark.parametrize(
    ("subject", "right"),
    [
        ("explain: decode masks of 6.12", True),
        ("kernels/alloc: a slab is counted once", True),
        ("A sentence without a subsystem", False),
        ("Explain: decode masks of 6.12", False),
        ("explain:", False),
        ("explain: " + "x" * 64, False),
    ],
)
def test_subjects_of_commits_name_the_subsystem(tmp_path, subject, right):
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text(subject + "\n\nLonger lines may follow: " + 100 * "x" + "\n")
    done = subprocess.run([ROOT / ".ci" / "commit-subjects", message], capture_output=True, env=dict(os.environ))
    assert (done.returncode == 0) is right


def test_what_the_contributing_page_names_is_there():
    """Files stand in the repository or in the package; of a name with a file behind it, that file has the name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

    def found(path: str) -> Path:
        places = [home / path for home in (ROOT, ROOT / "src/fastalloc", ROOT / "src/fastalloc/kernels/alloc")]
        return next((place for place in places if place.exists()), places[0])

    files = re.findall(r"`([\w.]+(?:/[\w.]+)*(?:/|\.(?:py|toml|csv|md)))`", text)
    assert "linux/gfp_masks.csv" in files
    of_a_dataset = {"runs/", "series/"}
    assert not [path for path in files if not found(path).exists() and path not in of_a_dataset and "NAME" not in path]
    named = re.findall(r"`(\w+)`\s+(?:of|in)\s+`([\w/]+\.py)`", text)
    assert ("CHANGES", "linux/slub_layouts.py") in named
    assert not [pair for pair in named if not re.search(rf"\b{pair[0]}\b", found(pair[1]).read_text(encoding="utf-8"))]
