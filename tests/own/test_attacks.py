"""What a careless or hostile user may write: one clear line with file and line, code 2 or 3, no number and no hang."""

import os
from pathlib import Path

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.kernels.alloc.policy_hooks import FAILED
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.own.allocator import own_allocator
from fastalloc.own.allocator_text import read_allocator, read_own
from fastalloc.own.compiled import PolicyError, install, own_policy
from fastalloc.own.plain_python import MOST_LINES
from fastalloc.scenario import load_scenario, with_policies
from fastalloc.verify.own.template import allocator_template
from tests.own.test_compiled import asked

KEEP = "def keep(cache):\n"
TEXTS = {
    "nothing": ("", "mine.py: answers none of merge, entitlement"),
    "no value on one way": (
        f"{KEEP}    if cache.id:\n        x = 1\n    return x\n",
        "mine.py: line 4: keep: 'x' may have no value here",
    ),
    "no value after a loop": (
        f"{KEEP}    for i in range(cache.id):\n        x = i\n    return x\n",
        "mine.py: line 4: keep: 'x' may have no value here",
    ),
    "a constant that a function changes": (
        f"COUNT = 0\n{KEEP}    COUNT += 1\n    return COUNT\n",
        "mine.py: line 3: keep: 'COUNT' may have no value here",
    ),
    "twice": (f"{KEEP}    return 1\n{KEEP}    return 2\n", "mine.py: line 3: keep is there already, in line 1"),
    "STATE twice": (f"STATE = {{}}\nSTATE = {{}}\n{KEEP}    return 1\n", "line 2: STATE is there already, in line 1"),
    "one word": (f'STATE = {{"cache": "taken"}}\n{KEEP}    return 1\n', "mine.py: line 1: STATE 'cache': STATE is a"),
    "too many words": (
        f'STATE = {{"slab": {[f"w{i}" for i in range(65)]}}}\n{KEEP}    return 1\n',
        "line 1: STATE 'slab': STATE is a table such as",
    ),
    "its own turns": (
        f"def turn(_own_turns):\n    return 1\n\n\n{KEEP}    return turn(1)\n",
        "mine.py: line 1: turn: '_own_turns': names that begin with _own_ are taken",
    ),
    "a field": (
        f'from fastalloc.own import parameter\nshort = parameter("short", 1, 0, 2, "x")\n{KEEP}    return short\n',
        "mine.py: line 2: parameter short: a field of every policy is called so",
    ),
    "deep": (f"{KEEP}    return {'1 + ' * 5000}1\n", "mine.py: no Python: is nested too deeply"),
    "a null byte": (f"{KEEP}    return 1\0\n", "mine.py: source code string cannot contain null bytes"),
    "tabs and blanks": (f"{KEEP}    if cache.id:\n\treturn 1\n    return 2\n", "mine.py: line 3: "),
    "an import": (f"{KEEP}    import os\n    return 1\n", "mine.py: line 2: keep: Import is not compiled"),
    "print": (f"{KEEP}    print(1)\n    return 1\n", "mine.py: line 2: keep: print is no function of this file"),
    "a huge number": (f"{KEEP}    return {1 << 70}\n", "is no whole number of 64 bits"),
    "a huge shift": (
        f"X = 1 << 70\n{KEEP}    return X\n",
        "line 3: keep: X is 1180591620717411303424: whole numbers of 64",
    ),
    "a global fraction": (
        f"SHARE = 0.5\n{KEEP}    return cache.id * SHARE\n",
        "line 3: keep: SHARE is 0.5: whole numbers",
    ),
    "a module's fraction": (f"import math\n{KEEP}    return 1 + math.pi\n", "line 3: keep: math.pi is 3.14159"),
    "a global text": (
        f"X = 'a'\n{KEEP}    return X\n",
        "mine.py: line 3: keep: X is 'a': whole numbers of 64 bits only",
    ),
    "a global list": (f"X = [1]\n{KEEP}    return X[0]\n", "mine.py: line 3: keep: X is [1]: whole numbers of 64 bits"),
    "a record": (f"{KEEP}    return cache\n", "mine.py: keep, line 1: returns what is no whole number"),
    "all names": (
        f"from fastalloc.own import *\n{KEEP}    return KERNEL\n",
        "mine.py: line 1: import * does not say which names there are",
    ),
    "a parameter by another name": (
        f"from fastalloc.own import parameter as p\nx = p('x', 1, 0, 2, 'm')\n{KEEP}    return x\n",
        "mine.py: line 1: parameter goes by its own name",
    ),
    "a parameter of a module": (
        f"import fastalloc.own as o\nx = o.parameter('x', 1, 0, 2, 'm')\n{KEEP}    return x\n",
        "mine.py: line 2: parameter goes by its own name",
    ),
    "a parameter that is changed": (
        f"from fastalloc.own import parameter\nx = parameter('x', 1, 0, 2, 'm')\nx += 5\n{KEEP}    return x\n",
        "mine.py: line 3: x is there already, in line 2",
    ),
    "a helper that nobody calls": (
        f"def helper(x):\n    return x\n\n\n{KEEP}    return 1\n",
        "mine.py: line 1: helper is no question, and nothing calls it. Questions are merge",
    ),
    "an end of the program": (f"import sys\nsys.exit(0)\n{KEEP}    return 1\n", "mine.py: line 2: SystemExit: 0"),
    "an error at its top": (f"1 // 0\n{KEEP}    return 1\n", "mine.py: line 1: ZeroDivisionError: "),
    "no end at its top": (
        f"while True:\n    pass\n{KEEP}    return 1\n",
        "mine.py: line 1: OverflowError: runs more than",
    ),
}


def made(source):
    """A policy as a command makes it."""
    read_own(source, "mine.py")
    return own_policy(source, "mine.py")


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_cannot_be_run_is_refused_in_a_line(name):
    source, words = TEXTS[name]
    with pytest.raises(InputError) as error:
        made(source)
    assert words in str(error.value)
    assert str(error.value).startswith("mine.py: ")
    assert str(error.value).count("\n") == 0


OWN = allocator_template("mine")
ALLOCATORS = {
    "a product without end": ('"slot": ("SLOTS", 1)', '"slot": ("SLOTS * SLOTS * SLOTS", 1)', "mine.py: ARRAYS: take "),
    "no table": (
        '"size": ("CACHES", 1), "held": (1, 1), "list": ("CACHES", 1), "page": ("PAGES", 5), "slot": ("SLOTS", 1)',
        "",
        "declares no arrays",
    ),
    "a keyword": ('"size": ("CACHES", 1)', '"class": ("CACHES", 1)', "class: ARRAYS is a table such as"),
    "an underscore": ('"size": ("CACHES", 1)', '"_size": ("CACHES", 1)', "_size: ARRAYS is a table such as"),
    "a column and a half": ('"size": ("CACHES", 1)', '"size": ("CACHES", 1.5)', "size: ARRAYS is a table such as"),
    "a function that there is": (
        "def create(",
        "def lock(zone):\n    return 1\n\n\ndef create(",
        "lock is what fastalloc.own provides",
    ),
    "another's name": ("def shrink(", "current = 3\n\n\ndef shrink(", "current is what fastalloc.own provides"),
    "twice": (
        "def shrink(",
        "def pages_held(heap):\n    return 1\n\n\ndef shrink(",
        "pages_held is there already, in line",
    ),
    "a fraction": ("heap.held[0, 0] += 1", "heap.held[0, 0] += HALF", "alloc: HALF is 0.5: whole numbers"),
}


@pytest.mark.parametrize("name", ALLOCATORS)
def test_an_allocator_that_cannot_be_run_is_refused_in_a_line(name):
    before, after, words = ALLOCATORS[name]
    assert before in OWN
    text = OWN.replace(before, after, 1).replace("# Rows and", "HALF = 0.5\n# Rows and")
    with pytest.raises(InputError) as error:
        own_allocator(text, "mine.py").arrays(3, 2, 4096)
    assert words in str(error.value)
    assert str(error.value).startswith("mine.py: ")


def test_merge_ends_too():
    merge = own_policy("def merge(cache, other):\n    while True:\n        pass\n", "mine.py").merge
    with pytest.raises(PolicyError, match=rf"line [23]: OverflowError: runs more than {MOST_LINES:,} lines"):
        merge("bio", "dentry")
    merge = own_policy("def merge(cache, other):\n    raise SystemExit(0)\n", "mine.py").merge
    with pytest.raises(PolicyError, match=r"merge\(cache='bio', other='dentry'\): line 2: SystemExit: 0"):
        merge("bio", "dentry")


def test_marks_line_ends_and_names_of_files_change_nothing(tmp_path):
    plain = "# é\ndef keep(cache):\n    return cache.min_partial\n"
    for name, data in (
        ("bom.py", b"\xef\xbb\xbf" + plain.encode()),
        ("crlf.py", plain.replace("\n", "\r\n").encode()),
        ("my-patch.v2.py", plain.encode()),
    ):
        (tmp_path / name).write_bytes(data)
        scenario = with_policies(load_scenario("swap-livelock-34m"), [str(tmp_path / name)])
        assert scenario.variant(name[:-3]).policy.questions == plain
        read_own(scenario.variant(name[:-3]).policy.questions, name)


def test_what_is_no_file_is_refused(fastalloc, tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "bytes.py").write_bytes(b"\x80\xfe")
    (tmp_path / "empty.py").touch()
    os.symlink("/dev/zero", tmp_path / "endless.py")
    os.symlink("nowhere", tmp_path / "lost.py")
    for name, words in (
        ("folder.py", "Is a directory"), ("bytes.py", "byte 0: not UTF-8 text"), ("endless.py", "is a device"),
        ("lost.py", "No such file"), ("empty.py", "answers none of merge, entitlement"),
    ):  # fmt: skip
        for command in (("policy", "check", name), ("run", "swap-livelock-34m", "--policy", name)):
            done = fastalloc(*command)
            assert (done.code, done.err.count("\n")) == (2, 1), done.err
            assert name in done.err
            assert words in done.err


def test_a_name_stands_for_one_policy(fastalloc, tmp_path):
    for name in ("fix.py", "a/mine.py", "b/mine.py", "c.py", "größe.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{KEEP}    return {len(name)} + {ord(name[0])}\n")
    for files, words in (
        ("größe.py", "größe.py: names it: give the file a name of letters, digits, _, . and - alone"),
        ("fix.py", "fix.py: fix is a policy that there is: give the file another name"),
        ("a/mine.py,b/mine.py", "b/mine.py: another one is called mine: give the file another name"),
        ("a/mine.py+c.py", "mine and c are files of one's own: a policy has one"),
    ):
        done = fastalloc("compare", "swap-livelock-34m", "--policies", files, "--out", "d")
        assert done.code == 2
        assert words in done.err
    assert not Path("d").exists()


@pytest.mark.parametrize("text", ["def keep(cache):\n    return 1 // (cache.id - cache.id)\n"])
def test_time_tells_no_number_of_what_fails(fastalloc, tmp_path, text):
    (tmp_path / "mine.py").write_text(text)
    done = fastalloc("policy", "time", "mine.py")
    assert done.code == 3
    assert done.out == ""
    assert "mine.py: line 2: ZeroDivisionError" in done.err


def test_an_array_of_its_own_has_bounds():
    source = f"TABLE = (1, 2, 3)\n{KEEP}    return TABLE[cache.id + 7]\n"
    policy = own_policy(source, "mine.py")
    ctl = install(policy, np.zeros(MEMCTL.width, np.int64), 1, 1, 1)
    assert asked(policy, "keep", ctl) == FAILED


def test_reading_is_not_running(tmp_path):
    read_allocator(f"open({str(tmp_path / 'x')!r}, 'w')\n{OWN}", "mine.py")
    assert not (tmp_path / "x").exists()
