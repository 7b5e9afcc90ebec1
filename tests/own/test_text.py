"""A policy's text is refused before anything of it runs, with the file's own name and line, and what is wrong."""

import gc
import sys
import threading
import time

import pytest

from fastalloc.errors import InputError
from fastalloc.own.compiled import own_policy
from fastalloc.own.questions import QUESTIONS
from fastalloc.own.text import parsed, read_text, refuse_in_replay, refuse_parameters, refuse_unasked
from fastalloc.verify.own.template import template

GROW = 'from fastalloc.own import parameter\ngrow = parameter("grow", 8, 1, 500, "objects")\n'
KEEP = "def keep(cache, state):\n    return cache.partial\n"

REFUSED = [
    ("def dept(zone):\n    return 1\n", "line 1: dept is no question, and nothing calls it; did you mean 'depth'?"),
    ("def depth(zine):\n    return 1\n", "depth, line 1: is not asked with 'zine', but with who, gfp"),
    ("def depth(zone):\n    return zone.fre\n", "line 2: depth: zone has no 'fre': there are id, free"),
    ("def depth(zone=1):\n    return 1\n", "depth, line 1: takes plain arguments alone"),
    ("def depth(*zone):\n    return 1\n", "depth, line 1: takes plain arguments alone"),
    ("def depth(zone):\n    return zone.free / 2\n", "line 2: depth: whole numbers only: write // in place of /"),
    ("def depth(zone):\n    return 0.5\n", "line 2: depth: 0.5: whole numbers only"),
    ("def depth(zone):\n    return 2 ** zone.free\n", "line 2: depth: ** is not compiled"),
    ("def depth(zone):\n    return 1 << 70\n    x = 'a'\n", "line 3: depth: text is not compiled"),
    ("def depth(zone):\n    return [1]\n", "line 2: depth: List is not compiled"),
    ("def depth(zone):\n    return -1 if zone.free in (1, 2) else 0\n", "line 2: depth: in and is are not compiled"),
    ("def depth(zone):\n    for z in zone:\n        pass\n    return 1\n", "line 2: depth: for goes over a range"),
    ("def depth(zone):\n    return foo(1)\n", "line 2: depth: foo is no function of this file"),
    ("import os\ndef depth(zone):\n    return os.getpid()\n", "line 3: depth: calls plain functions alone"),
    ("def depth(zone):\n    return zon.free\n", "line 2: depth: 'zon' is not known; did you mean 'zone'?"),
    ("def depth(zone):\n    zone.free = 1\n    return 1\n", "line 2: depth: only words of state can be changed"),
    ("def depth(zone):\n    return\n", "line 2: depth: returns nothing"),
    ("def a(x):\n    return b(x)\ndef b(x):\n    return a(x)\ndef depth(who):\n    return a(who)\n", "calls itself"),
    ("async def depth(zone):\n    return 1\n", "line 1: depth: a policy is made of plain functions"),
    ("class Depth:\n    pass\ndef depth(zone):\n    return 1\n", "line 1: Depth: a policy is made of plain functions"),
    ("x = 1\n", "answers none of merge, entitlement, depth"),
    ("def merge(cache):\n    return True\n", "merge, line 1: takes 1 arguments, is asked with cache, other"),
    (f"{KEEP}def depth(zone, state):\n    return state.slab.x\n", "state.slab has no word 'x'"),
    ('STATE = {"slab": ["x"]}\ndef depth(zone, state):\n    return state.slab.x\n', "state.slab: depth is asked of no"),
    ('STATE = {"zone": ["x"]}\ndef depth(zone):\n    return 1\n', "line 1: STATE 'zone': STATE is a table such as"),
    (f"STATE = open('x')\n{KEEP}", "line 1: STATE is a table such as"),
    (f"{GROW.replace('8', '0')}{KEEP}", "line 2: parameter grow: 0 is not within 1 to 500"),
    (f"{GROW.replace('grow =', 'grew =')}{KEEP}", "line 2: parameter grow must be assigned to grow"),
    (f"{GROW.replace('500', 'most')}{KEEP}", "line 2: parameter takes constants"),
    ("@abs\ndef depth(zone):\n    return 1\n", "depth, line 2: has a decorator, which is not compiled"),
    (
        "def depth(zone):\n    def a():\n        return 1\n    return 1\n",
        "line 2: depth: a function inside another is not",
    ),
    ("def depth(who):\n    raise ValueError from None\n", "line 2: depth: raise ... from is not compiled"),
    ("def depth(who):\n    a = b = 1\n    return a + b\n", "line 2: depth: one variable at a time"),
    (
        "def depth(zone):\n    zone = 1\n    return zone\n",
        "line 2: depth: 'zone' is what it is told and cannot be assigned",
    ),
    (
        'STATE = {"lane": ["a"]}\ndef depth(state):\n    return state.lane\n',
        "state.lane needs a word, such as state.lane.taken",
    ),
    ('STATE = {"lane": ["a"]}\ndef depth(who):\n    return state.lane.a\n', "depth: takes no argument 'state'"),
    (
        f"{GROW.replace(chr(34) + 'grow' + chr(34), chr(34) + 'gr ow' + chr(34))}{KEEP}",
        "name must be that of its variable",
    ),
    (f"{GROW.replace('8', '8.5')}{KEEP}", "line 2: parameter grow: default, low and high are whole numbers"),
    (f"{KEEP}# {'x' * (1 << 18)}\n", "characters; a file of one's own has at most 262,144"),
    # records under other names: in a function that is called, and in one that is assigned to
    (
        "def short(z):\n    return z.fre\ndef depth(zone):\n    return short(zone)\n",
        "line 2: short: z, a zone, has no 'fre': there are id, free, min, low, high; did you mean 'free'?",
    ),
    (
        "def a(y):\n    return y.partail\ndef b(x):\n    return a(x)\ndef keep(cache):\n    return b(cache)\n",
        "line 2: a: y, a cache, has no 'partail': there are id, size",
    ),
    ("def depth(zone):\n    z = zone\n    return z.lo\n", "line 3: depth: z, a zone, has no 'lo': there are id, free"),
    (
        "def f(x):\n    return x.total\ndef keep(cache, slab):\n    return f(slab) + f(cache)\n",
        "line 2: f: x, a cache, has no 'total': there are id, size",
    ),
    ("def depth(now):\n    return now.fre\n", "line 2: depth: now is a whole number and has no 'fre'"),
    ("def f(x):\n    return x.y\ndef depth(zone):\n    return f(zone.free)\n", "line 2: f: x is a whole number"),
    (
        "from fastalloc.own import WHO\ndef depth(who):\n    return who == WHO.boi\n",
        "line 3: depth: WHO has no 'boi': there are nobody, bio, biovec",
    ),
    ("from fastalloc.own import WHOO\ndef depth(who):\n    return 1\n", "line 1: fastalloc.own has no 'WHOO' (did you"),
    (
        'STATE = {"lane": ["a"]}\ndef f(s):\n    return s.lane.a\ndef depth(state):\n    return f(state)\n',
        "line 3: f: s is state, which goes by its own name",
    ),
]


@pytest.mark.parametrize(("source", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_policy_is_refused(source, words):
    with pytest.raises(InputError) as error:
        read_text(source, "mine.py")
    assert words in str(error.value)
    assert str(error.value).startswith("mine.py: ")
    assert str(error.value).count("\n") == 0


def test_a_record_may_go_by_other_names():
    source = (
        "def left(z):\n    return z.free\ndef depth(zone):\n    z = zone if zone.free else zone\n    return left(z)\n"
    )
    assert read_text(source, "mine.py").used["depth"] == ["left", "depth"]


def test_a_way_without_an_answer_is_refused():
    with pytest.raises(InputError, match=r"mine\.py: depth, line 1: ends without an answer"):
        own_policy("def depth(zone):\n    if zone.free > 3:\n        return 1\n", "mine.py")


def test_parameters_are_known_without_running_the_text():
    text = read_text(f"{GROW}open('no such file')\n{KEEP}", "mine.py")
    assert text.parameters["grow"][1:] == (8, 1, 500, "objects")
    refuse_parameters(text, {"grow": 500})
    for values, words in (({"grow": 501}, "501 is not within 1 to 500: objects"), ({"grew": 1}, "did you mean 'grow'")):
        with pytest.raises(InputError, match=words):
            refuse_parameters(text, values)


def test_a_parameter_may_name_what_it_is_declared_with():
    text = "x = parameter('x', high=9, default=5, low=4, meaning='m')\ndef keep(cache):\n    return x\n"
    assert read_text(text, "mine.py").parameters["x"][1:] == (5, 4, 9, "m")


def test_a_parameter_is_what_it_is_set_to_wherever_the_text_uses_it():
    source = f"{GROW}TWICE = 2 * grow\ndef keep(cache):\n    return TWICE + grow\n"
    policy = own_policy(source, "mine.py", {"grow": 5})
    assert policy.interpreted["keep"](lane_ctl()) == 15
    assert own_policy(source, "mine.py").interpreted["keep"](lane_ctl()) == 24


def lane_ctl():
    import numpy as np

    from fastalloc.kernels.alloc.state import MEMCTL

    return np.zeros(MEMCTL.width, np.int64)


def test_what_says_kernel_is_not_asked():
    source = 'KERNEL = -1\ndef keep(cache):\n    """Why."""\n    return KERNEL\ndef depth(zone):\n    return zone.min\n'
    assert read_text(source, "mine.py").asked == ["depth"]


def test_what_an_allocator_does_not_ask_is_refused_in_words():
    text = read_text("def refill(sheaf):\n    return 1\n", "mine.py")
    refuse_unasked(text, "7.3")
    with pytest.raises(InputError, match=r"refill, line 1: is asked of allocator 'sheaves', '7.3', not of 'slub'"):
        refuse_unasked(text, "slub")


@pytest.mark.parametrize(
    ("source", "eras", "words"),
    [
        ("def depth(zone):\n    return 1\n", {"7.3"}, "is not asked in a replay"),
        ("def entitlement(who):\n    return 1\n", {"7.3"}, "takes 'who', which a recorded trace does not tell"),
        ("def refill(sheaf):\n    return 1\n", {"7.3", "cpu-partial"}, "is not asked of the rules of cpu-partial"),
    ],
)
def test_what_a_replay_cannot_ask_is_refused(source, eras, words):
    with pytest.raises(InputError, match=words):
        refuse_in_replay(read_text(source, "mine.py"), eras)


def test_the_template_and_each_question_of_it_are_policies():
    text = template("mine")
    assert read_text(text, "mine.py").asked == ["keep"]
    live = "\n".join(
        line.removeprefix("# ") if "    " in line or "def " in line else line for line in text.splitlines()
    )
    assert set(read_text(live, "mine.py").functions) == set(QUESTIONS)


@pytest.mark.slow
def test_many_threads_read_texts_at_once():
    """CPython 3.11 raises SystemError where a collection of garbage hands over to another thread that reads one too."""
    line = "    x{0} = (({0} + 1) * ({0} + 2)) - ((3 * {0}) + (4 * (5 + {0})))\n"
    source = "def depth(who):\n" + "".join(map(line.format, range(60))) + "    return 1\n"
    found = []

    def read(thread):
        for n in range(10):
            try:
                parsed(f"{source}# {thread} {n}", "x.py")
            except BaseException as error:
                found.append(error)

    def hand_over(*_):
        time.sleep(0)

    often, before = sys.getswitchinterval(), gc.get_threshold()
    gc.callbacks.append(hand_over)
    try:
        sys.setswitchinterval(1e-6)
        gc.set_threshold(20)
        threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(often)
        gc.set_threshold(*before)
        gc.callbacks.remove(hand_over)
    assert found == []


def test_every_function_of_a_file_is_told_that_is_wrong():
    source = (
        "def keap(cache):\n    return 1\n\n\ndef keep(cache):\n    return cache.partail\n\n\n"
        "def fallback(who, gpf):\n    return 0\n\n\ndef depth(zone):\n    return foo\n"
    )
    with pytest.raises(InputError) as raised:
        read_text(source, "mine.py")
    first, second, third, fourth = str(raised.value).splitlines()
    assert first.startswith("mine.py: line 1: keap is no question")
    assert second.startswith("mine.py: fallback, line 9: is not asked with 'gpf'")
    assert third.startswith("mine.py: line 6: keep: cache has no 'partail'")
    assert fourth == "mine.py: line 14: depth: 'foo' is not known"
