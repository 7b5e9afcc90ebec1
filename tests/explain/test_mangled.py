"""What mail, syslog, terminals and cuts do to a report: the numbers stay right or are not given, nothing falls over."""

import json
import quopri
import random
import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastalloc
from fastalloc.errors import InputError
from tests.explain.printed import Made, make

NUMBERS = ("free", "min", "low", "high", "mark", "lowmem_reserve", "available", "short_by", "need_more_than")


def stamped(prefix: str):
    """Each line gets a prefix, but those that go on inside a record."""

    def mangle(text: str, rng: random.Random) -> str:
        clock = rng.randrange(10, 90_000)
        lines = []
        for line in text.splitlines():
            clock += rng.random()
            lines.append(prefix.format(clock=clock, line=line))
        return "\n".join(lines) + "\n"

    return mangle


def wrapped_at_words(text: str, rng: random.Random) -> str:
    width = rng.randrange(60, 90)
    fold = {"break_long_words": False, "break_on_hyphens": False, "drop_whitespace": True}
    return "\n".join("\n".join(textwrap.wrap(line, width, **fold)) or line for line in text.splitlines()) + "\n"


def wrapped_in_words(text: str, rng: random.Random) -> str:
    width = rng.randrange(70, 130)
    return "\n".join(
        line[at : at + width] for line in text.splitlines() for at in range(0, max(len(line), 1), width)
    ) + "\n"  # fmt: skip


def quoted_printable(text: str, rng: random.Random) -> str:
    return quopri.encodestring(text.encode()).decode()


def quoted(text: str, rng: random.Random) -> str:
    mark = rng.choice(("> ", ">> ", "> > ", "| ", "  ", "\t"))
    return "".join(f"{mark}{line}\n" for line in text.splitlines())


def returns(text: str, rng: random.Random) -> str:
    return text.replace("\n", "\r\n")


def one_line(text: str, rng: random.Random) -> str:
    return " ".join(text.splitlines()) + "\n"


def entities(text: str, rng: random.Random) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chatter(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(6):
        lines.insert(rng.randrange(len(lines) + 1), "eth0: link is up, 1000 Mbps")
    return "\n".join(lines) + "\n"


def escaped_newlines(text: str, rng: random.Random) -> str:
    return text.replace("\n ", rng.choice(("#012 ", "\\x0a ")))


def markdown(text: str, rng: random.Random) -> str:
    ways = (
        lambda line: line.replace("*", "\\*").replace("_", "\\_"),
        lambda line: line.replace("*", "_"),
        lambda line: f"`{line}`  ",
    )
    return "".join(f"{rng.choice(ways)(line)}\n" for line in text.splitlines())


def json_lines(text: str, rng: random.Random) -> str:
    lines = (json.dumps({"log": line + "\n", "stream": "stdout"}) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines).replace("<", "\\u003c").replace(">", "\\u003e")


PREFIXES = {
    "dmesg": "[{clock:12.6f}] {line}",
    "level": "<4>[{clock:12.6f}] {line}",
    "caller": "[{clock:12.6f}][ T1778] {line}",
    "syslog": "Nov 11 21:51:32 host kernel: {line}",
    "syslog-stamp": "Nov 11 21:51:32 host kernel: [{clock:12.6f}] {line}",
    "journal": "2024-05-01T10:00:00+02:00 host kernel: {line}",
    "rsyslog": "2024-05-01T10:00:00.123456+02:00 host kernel: [{clock:.6f}] {line}",
    "human": "[Mon Mar 25 23:35:17 2019] {line}",
    "kmsg": "4,100,{clock:.0f},-;{line}",
    "kmsg-caller": "4,100,{clock:.0f},-,caller=T12845;{line}",
    "logcat": "05-01 10:00:00.123     0     0 W kernel  : {line}",
    "logcat-brief": "W/kernel  (    0): {line}",
    "grep": "/var/log/kern.log:Nov 11 21:51:32 host kernel: [{clock:.6f}] {line}",
    "ci": "2024-05-01T10:00:00.123456Z [{clock:12.6f}] {line}",
    "android": "07-13 08:41:51.341 <4>[{clock:.6f}s][pid:1361,cpu5,sManager]{line}",
    "mediatek": "<4>[{clock:12.6f}].(2)[1234:Binder:123_4]{line}",
    "openwrt": "Sat Mar  4 10:11:12 2023 kern.warn kernel: [{clock:12.6f}] {line}",
    "host": "Nov 16 09:25:20 sleepy {line}",
    "numbered": "    77\t[{clock:12.6f}] {line}",
}
LOSSLESS = {
    **{name: stamped(prefix) for name, prefix in PREFIXES.items()},
    "words": wrapped_at_words,
    "inside": wrapped_in_words,
    "line": one_line,
    "qp": quoted_printable,
    "quote": quoted,
    "crlf": returns,
    "html": entities,
    "chatter": chatter,
    "escape": escaped_newlines,
    "markdown": markdown,
    "json": json_lines,
}
# How they come together: a prefix first, then what a program folds, then mail.
CHAINS = st.tuples(
    st.sampled_from([None, *PREFIXES]),
    st.sampled_from([None, "words", "inside", "line", "chatter", "escape"]),
    st.sampled_from([None, "quote", "qp", "html", "crlf", "markdown", "json"]),
)


def answers(text: str) -> list[dict]:
    return [answer.as_json() for answer in fastalloc.explain(text)]


def essence(answer: dict) -> tuple:
    zones = [
        tuple(zone.get(name) for name in ("node", "zone", "allowed", "verdict", *NUMBERS)) for zone in answer["zones"]
    ]
    return (answer["order"], answer["mode"], answer["verdict"], answer["class_zone"], sorted(map(str, zones)))


def made(seed: int) -> Made:
    return make(random.Random(seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), chain=CHAINS)
def test_what_loses_nothing_changes_nothing(seed, chain):
    report = made(seed)
    text, rng = report.text, random.Random(seed)
    for name in chain:
        if name is not None:
            text = LOSSLESS[name](text, rng)
    plain = [essence(answer) for answer in answers(report.text)]
    assert [essence(answer) for answer in answers(text)] == plain


@pytest.mark.parametrize("join", ["\n", " "])
def test_the_package_beside_a_version_names_the_stable_update(join):
    """Not one far behind it on the same line."""
    head = f"X: page allocation failure: order:0, mode:0x820(GFP_ATOMIC){join}CPU: 0 PID: 1 Comm: X Not tainted "
    for after, stable in (("#1 SMP  Debian 6.1.76-1", 76), ("#1" + " x" * 90 + " Debian 6.1.76-1", None)):
        (answer,) = fastalloc.explain(f"{head}6.1.0-18-amd64 {after}{join}Mem-Info:\n")
        assert answer.report.release.stable == stable
        assert answer.report.mem_info.begun


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(30, 200), stamp=st.sampled_from([None, "dmesg", "syslog"]))
def test_lines_cut_at_a_width_give_no_wrong_number(seed, width, stamp):
    report = made(seed)
    text = LOSSLESS[stamp](report.text, random.Random(seed)) if stamp else report.text
    cut = "".join(line[:width] + "\n" for line in text.splitlines())
    _no_wrong_number(report, cut)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), keep=st.floats(0.3, 0.95))
def test_lines_that_are_lost_give_no_wrong_number(seed, keep):
    report, rng = made(seed), random.Random(seed)
    text = "".join(line + "\n" for line in report.text.splitlines() if rng.random() < keep)
    _no_wrong_number(report, text)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), start=st.integers(0, 3000), length=st.integers(10, 6000))
def test_any_part_of_a_report_is_read_or_refused(seed, start, length):
    report = made(seed)
    start = report.text.rfind("\n", 0, start) + 1  # a paste begins with a line
    _no_wrong_number(report, report.text[start : start + length] + "\n", head_may_be_cut=True)


@settings(max_examples=20, deadline=None)
@given(text=st.text(max_size=300), seed=st.integers(0, 50))
def test_noise_around_a_report_raises_nothing(text, seed):
    answers(text + "\n" + made(seed).text + text + "\n")


def _no_wrong_number(report: Made, text: str, head_may_be_cut: bool = False) -> None:
    """What the answer to a damaged text says of a zone is what the zone had, or is not said."""
    try:
        got = answers(text)
    except InputError:
        return
    unit = report.page_kb
    true = {(zone.node, zone.name): zone for zone in report.zones}
    # Where the line of a zone is lost and not that of its reserve, the reserve seems to be that of the zone before.
    reserves = {pages for zone in report.zones for pages in zone.reserve}
    for answer in got:
        if answer["zones"] and answer["page_kb"] != unit:
            continue  # the lists are lost and with them the size of a page; see test_the_page_size
        for zone in answer["zones"]:
            here = true[zone["node"], zone["zone"]]
            assert zone["free"] == here.free
            for name in ("min", "low", "high"):
                assert zone.get(name) in (None, getattr(here, name))
            if zone["lowmem_reserve"] is not None:
                assert zone["lowmem_reserve"] in reserves | {0}
        if answer["mode"] is not None and not head_may_be_cut:
            assert int(answer["mode"], 16) == report.mode


def test_the_order_of_a_log_may_be_turned_round():
    report = made(3)
    lines = [f"[{10 + number / 1000:12.6f}] {line}" for number, line in enumerate(report.text.splitlines())]
    plain = answers("\n".join(lines) + "\n")
    turned = answers("\n".join(reversed(lines)) + "\n")
    assert [essence(answer) for answer in turned] == [essence(answer) for answer in plain]


def test_lines_inside_a_report_that_nobody_knows_are_counted():
    report = made(3)
    lines = report.text.splitlines()
    known = answers(report.text)[0]["unknown_lines"]
    lines.insert(6, "wlan0: a word of its own")
    assert answers("\n".join(lines) + "\n")[0]["unknown_lines"] == known + 1


@pytest.mark.parametrize("tagged", [True, False])
def test_two_reports_that_were_printed_at_once_are_told_apart(tagged):
    first, second = made(21), made(22)
    texts = [first.text.splitlines(), second.text.splitlines()]
    mixed, rng = [], random.Random(1)
    if not tagged:  # of one kernel, a line of each in turn
        texts[1] = first.text.replace("order:0", "order:1").splitlines()
    while any(texts):
        which = rng.randrange(2) if all(texts) else int(not texts[0])
        line = texts[which].pop(0)
        mixed.append(f"[{len(mixed) + 1.0:12.6f}][ T{100 + which}] {line}" if tagged else line)
    got = answers("\n".join(mixed) + "\n")
    assert len(got) == 2
    if tagged:
        assert sorted(map(str, map(essence, got))) == sorted(
            str(essence(answer)) for one in (first, second) for answer in answers(one.text)
        )
    else:
        (plain,) = answers(first.text)
        assert [zone["free"] for zone in got[0]["zones"]] == [zone["free"] for zone in plain["zones"]]
        assert [zone["free"] for zone in got[1]["zones"]] == [zone["free"] for zone in plain["zones"]]


def test_of_two_heads_printed_together_the_first_has_the_first_block():
    first = made(21).text.splitlines()
    second = [line.replace("free:", "free:1") if "min:" in line else line for line in first]
    head = next(number for number, line in enumerate(first) if "Mem-" in line)
    mixed = [*first[:head], *second[:head], *first[head:], *second[head:]]
    got = answers("\n".join(mixed) + "\n")
    alone = [answers("\n".join(lines) + "\n")[0] for lines in (first, second)]
    assert [[zone["free"] for zone in answer["zones"]] for answer in got] == [
        [zone["free"] for zone in answer["zones"]] for answer in alone
    ]


def test_a_number_that_begins_the_next_line_is_not_of_the_reserve():
    report = made(3)
    numbered = "".join(f"{77 + at}  [{at + 10:12.6f}] {line}\n" for at, line in enumerate(report.text.splitlines()))
    plain = "".join(f"{77 + at} {line}\n" for at, line in enumerate(report.text.splitlines()))
    (expected,) = answers(report.text)
    for text in (numbered, plain):
        (answer,) = answers(text)
        assert [zone["lowmem_reserve"] for zone in answer["zones"]] == [
            zone["lowmem_reserve"] for zone in expected["zones"]
        ]


@pytest.mark.parametrize("often", [0.05, 0.5])
@pytest.mark.parametrize("seed", [7, 10, 13, 36, 84, 115, 144])
def test_of_two_reports_that_mix_line_by_line_no_zone_has_numbers_of_both(seed, often):
    rng = random.Random(seed)
    first = made(seed).text.splitlines()
    more: dict[str, int] = {}  # kB free in each zone, and so in its list

    def freed(zone):
        more[zone[1]] = 64 * rng.randrange(1, 9)
        return f"{zone[1]} free:{int(zone[2]) + more[zone[1]]}kB"

    def listed(zone):
        return f"{zone[1]}: {zone[2]}= {int(zone[3]) + more[zone[1]]}kB"

    second = [re.sub(r"((?:Node \d+ )?\w+) free:(\d+)kB", freed, line) for line in first]
    second = [re.sub(r"((?:Node \d+ )?\w+): (\d+\*.*)= (\d+)kB", listed, line) for line in second]
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 2 * len(more)
    true = {zone for lines in (first, second) for zone in _zones("\n".join(lines) + "\n")}
    ours, mixed, which = [list(first), list(second)], [], 0
    while any(ours):
        which ^= rng.random() < often
        mixed.append((ours[which] or ours[1 - which]).pop(0))
    assert set(_zones("\n".join(mixed) + "\n")) <= true
    assert len(answers("\n".join(mixed) + "\n")) == 2


def _zones(text: str) -> list[tuple]:
    return [
        tuple(zone.get(name) for name in ("node", "zone", "verdict", *NUMBERS))
        for answer in answers(text)
        for zone in answer["zones"]
    ]
