"""Code that files carry runs when it is trusted, and not before; text of others stays text."""

import json
import os
from pathlib import Path

import pytest
import tomli_w

from fastalloc.compiler.cache_dir import own_folder
from fastalloc.errors import InputError, printable
from fastalloc.scenario import load_scenario, trust
from tests.faults.test_files import FAULTS, refused

PWNED = 'open("pwned", "w")\\ndef depth(who, zone):\\n    return -1\\n'
SCENARIO = f"""
name = "s"
[machine]
from = "linux-2.6.25-rc8-256m"
[policy]
questions = '''{PWNED}'''
"""
VARIANT = f"""
name = "s"
variants = [{{ name = "a", set = {{ "policy.questions" = '''{PWNED}''' }} }}]
[machine]
from = "linux-2.6.25-rc8-256m"
"""
AXIS = "name = \"s\"\nscenario = \"swap-livelock-34m\"\n[axes]\n\"policy.questions\" = ['''x''']\n"


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.delenv(trust.TRUST, raising=False)


@pytest.mark.parametrize(
    ("command", "text"), [("run", SCENARIO), ("run", VARIANT), ("compare", SCENARIO), ("sweep", AXIS)]
)
def test_a_file_runs_no_code(fastalloc, tmp_path, command, text):
    file = tmp_path / "s.toml"
    file.write_text(text.replace("\\n", "\n"))
    refused(fastalloc(command, file), "policy.questions", "lines of Python (SHA-256", "--trust")
    assert not Path("pwned").exists()


def test_a_dataset_runs_no_code(fastalloc, tmp_path):
    policy = tmp_path / "mine.py"
    policy.write_text("def merge(cache, other):\n    return True\n")
    short = ("--lanes", 1, "--seconds", 1, "--out", "d")
    assert fastalloc("compare", "swap-livelock-34m", "--policies", policy, *short).code == 0
    refused(fastalloc("rerun", "d", 1), "manifest.json", "policy.questions", "--trust")
    assert fastalloc("rerun", "d", 0).code == 0
    assert fastalloc("rerun", "d", 1, "--trust").code == 0
    manifest = Path("d/manifest.json")
    told = manifest.read_text()
    manifest.write_text(told.replace("return True", "return cache != 'bio'"))  # and the digest is another's
    for command in (("rerun", "d", 1), ("rewind", "d", 1, "--to", "0.5s"), ("decided", "d", 1)):
        refused(fastalloc(*command, "--trust"), "manifest.json", "own_policy: mine.py: the SHA-256 is that of no text")
    assert "tells another SHA-256 of mine.py than its text has" in fastalloc("dataset", "check", "d").err
    manifest.write_text(told.replace("def merge(cache", "def murge(cache"))
    refused(fastalloc("rerun", "d", 1), "variant mine: mine.py: line 1: murge is no question")


def test_a_damaged_manifest_is_told(fastalloc):
    assert fastalloc("run", "swap-livelock-34m", "--lanes", 1, "--seconds", 1, "--out", "d").code == 0
    manifest = Path("d/manifest.json")
    told = json.loads(manifest.read_text())
    for key, value in (("scenario", 5), ("variants", None), ("lanes", "many"), ("status", ["\x1b[2J"])):
        manifest.write_text(json.dumps(told | {key: value}))
        for command in (("report", "d"), ("rerun", "d", 0), ("dataset", "check", "d")):
            done = fastalloc(*command)
            assert done.code in (0, 1, 2), done.err
            assert "\x1b" not in done.out + done.err


def test_text_of_others_is_escaped(fastalloc):
    assert printable("a\x1b[2J\nb\x9b\u202ec") == "a\\x1b[2J\\nb\\x9b\\u202ec"
    done = fastalloc("run", FAULTS / "hostile-scenario.toml", "--lanes", 1, "--out", "d")
    done = done if done.code == 2 else fastalloc("report", "d")
    assert not [c for c in done.out + done.err if ord(c) < 32 and c != "\n"]


def test_the_folder_of_compiled_code_is_the_users_alone(tmp_path):
    assert own_folder(tmp_path / "new").stat().st_mode & 0o777 == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(InputError, match="others may write"):
        own_folder(shared)
    if os.getuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir(mode=0o700)
        os.chown(theirs, 1234, 1234)
        with pytest.raises(InputError, match="belongs to user 1234"):
            own_folder(theirs)


def test_text_of_others_forges_no_line(fastalloc, monkeypatch):
    """Marks that reorder what stands around them, and ends of lines, where a sentence tells what a file says."""
    said = "rc8\u202e\nforged \x1b[2J"
    scenario = load_scenario("swap-livelock-34m").model_copy(update={"description": said, "kernel_policy": said})
    Path("s.toml").write_text(tomli_w.dumps(scenario.model_dump(exclude_none=True)))
    monkeypatch.setattr("fastalloc.compiler.cache_dir.is_cold", lambda: True)
    done = fastalloc("run", "s.toml", "--lanes", 1, "--seconds", 1, "--out", "d")
    manifest = Path("d/manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"simplified": [said]}))
    for shown in (done.out + done.err, fastalloc("report", "d").out):
        assert "forged" in shown
        assert not any(line.startswith("forged") for line in shown.splitlines())
        assert not [c for c in shown if c in "\u202e\x1b"]
