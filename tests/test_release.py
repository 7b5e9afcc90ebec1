"""What a release says of itself, in one place each."""

import os
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
