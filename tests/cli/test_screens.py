"""What the main commands show at 80 and 200 columns, piped, without colour and where the terminal knows no UTF-8.

Screens are kept in ``screens/``; after a change that is meant, ``FASTALLOC_SCREENS=write`` writes them again.
"""

import io
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from fastalloc.cli.app import NAMES
from fastalloc.cli.main import main
from fastalloc.sweep.reserve import Refused, Reserve
from fastalloc.terminal import Table, console, show_all_columns
from fastalloc.width import fitted
from tests import fake_batch

SCREENS = Path(__file__).with_name("screens")
DATA = Path(__file__).parents[1] / "data"
INPUTS = {
    "dmesg.txt": DATA / "memory_reports" / "019-4.2-order1-reserve" / "input.txt",
    "slabinfo.txt": DATA / "slabinfo" / "slub-2.6.3x-8-cpus.txt",
    "run.events.parquet": DATA / "traces" / "d_stack_k612.events.parquet",
    "run.slabstate.parquet": DATA / "traces" / "d_stack_k612.slabstate.parquet",
}
COMMANDS = {
    "report": ("report", "d"),
    "report-wide": ("report", "d", "--wide"),
    "run": ("run", "swap-livelock", "--lanes", 4, "--seconds", 40, "--out", "again"),
    "board": ("compare", "swap-livelock", "--policies", "fix,nomerge-bio", "--lanes", 4, "--seconds", 40, "--out", "b"),
}
ANSWERS = {
    "explain": ("explain", "dmesg.txt"),
    "caches": ("caches", "--size", 2312, "--kernel", "6.12", "--what-if", "kernel=7.3"),
    "caches-table": ("caches", "slabinfo.txt", "--what-if", "boot=slub_nomerge"),
}
# Tables, and sentences that a narrow terminal breaks.
TABLES = {
    "trace-info": ("trace", "info", "run.events.parquet", "--top", 6),
    "trace-by": ("trace", "info", "run.events.parquet", "--by", "cache", "--top", 6),
    "replay": ("replay", "run.events.parquet", "--kernel", "6.12", "--what-if", "nomerge", "-o", "r"),
    "policies": ("policies",),
    "policy": ("policies", "fix"),
    "scenarios": ("scenarios",),
}
LISTS = (*TABLES.values(), *ANSWERS.values(), ("-h",))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the dataset of ``ran`` is kept, made once."""
    return tmp_path_factory.mktemp("kept") / "d"


@pytest.fixture
def ran(fastalloc, kept):
    """Runs commands in a folder that holds a dataset ``d``."""
    if not kept.exists():
        assert fastalloc("run", "swap-livelock", "--lanes", 4, "--seconds", 40, "--out", "d").code == 0
        shutil.copytree("d", kept)
    else:
        shutil.copytree(kept, "d")
    return fastalloc


@pytest.fixture
def given(fastalloc):
    """Runs commands in a folder that holds texts as people post them."""
    for name, path in INPUTS.items():
        shutil.copy(path, name)
    return fastalloc


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_screens(ran, monkeypatch, name, columns):
    compared(ran, monkeypatch, COMMANDS[name], name, columns)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", [*ANSWERS, *TABLES])
def test_screens_of_what_simulates_nothing(given, monkeypatch, name, columns):
    compared(given, monkeypatch, (ANSWERS | TABLES)[name], name, columns)


def compared(run, monkeypatch, words, name, columns):
    """A command shows what is kept of it, no line wider than the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = "".join(f"{line.rstrip()}\n" for line in run(*words).out.splitlines())
    assert max(map(len, shown.splitlines())) <= columns
    kept = SCREENS / f"{name}-{columns}.txt"
    if os.environ.get("FASTALLOC_SCREENS") == "write":
        kept.write_text(shown)
    assert shown == kept.read_text()


def test_lists_fit_80_columns(fastalloc, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in (TABLES["policies"], TABLES["policy"]):
        assert max(map(len, fastalloc(*words).out.splitlines())) <= 80


def test_help_fits_80_columns_and_is_not_cut(fastalloc, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = fastalloc("-h").out
    assert "..." not in shown.replace("[ARGS]...", "")
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in NAMES)
    assert max(map(len, shown.splitlines())) <= 80
    for name in NAMES:
        page = fastalloc(name, "-h").out
        assert max(map(len, page.splitlines())) <= 80, name
        assert not re.search(r" <[a-z]|TEXT\b|INTEGER\b|FLOAT\b", page), f"{name}: values by their own names"


def test_commands_that_run_have_the_same_options(fastalloc):
    wanted = {
        "run": "--seconds --seed --lanes --threads --json --policies --wide",
        "compare": "--seconds --seed --lanes --threads --json --policies --wide",
        "frontier": "--seconds --seed --lanes --threads --json --policies",
        "reserve": "--seconds --seed --lanes --threads --json --policy --policies",
        "rare": "--seconds --seed --lanes --threads --json --policy --policies",
        "rerun": "--since --events --json",
        "sweep": "--seconds --seed --lanes --threads --json --policies --wide",
        "replay": "--threads --json --wide",
        "verify": "--threads --json --wide",
    }
    for name, options in wanted.items():
        page = fastalloc(name, "-h").out
        assert not [option for option in options.split() if option not in page], name


def test_answers_lose_no_word_where_the_terminal_is_narrow(given, monkeypatch):
    for words in ANSWERS.values():
        whole = given(*words).out
        monkeypatch.setenv("COLUMNS", "80")
        narrow = given(*words).out
        monkeypatch.delenv("COLUMNS")
        assert narrow.split() == whole.split()
    assert max(map(len, given(*ANSWERS["explain"]).out.splitlines())) > 100, "a pipe gets lines as they are"


# Commands that print sentences: what they print is prose but for lines of a command to copy.
SENTENCES = {
    "run": ("run", "swap-livelock", "--lanes", 4, "--seconds", 40, "--out", "again"),
    "compare": ("compare", "swap-livelock", "--policies", "fix,nomerge-bio", "--lanes", 2, "--out", "b"),
    "report": ("report", "d"),
    "rerun": ("rerun", "d", 0, "--events", 10),
    "frontier": ("frontier", "swap-livelock", "--of", "machine.min_free_kbytes", "--from", 64, "--to", 4096,
                 "--lanes", 64, "--most-lanes", 64, "--seconds", 40, "--where", "livelock<1e-4",
                 "--policies", "rc8,fix"),
    "reserve": ("reserve", "linux-2.6.25-rc8-512m", "--burst", "pages=900,every_ms=100"),
    "init": ("init", "mine"),
    "scenarios": ("scenarios",),
    "policies": ("policies", "6.18"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "columns"), [*((name, "") for name in SENTENCES), ("reserve", "100")])
def test_every_sentence_is_as_wide_as_the_terminal(ran, monkeypatch, name, columns):
    """A pipe without COLUMNS has 80, on stderr as on stdout."""
    little = Refused(1000, 40, 10_000, 0.004, 0.003, 0.005, 16)
    enough = Refused(4000, 1, 100_000, 1e-5, 1e-6, 1e-4, 128)
    found = Reserve("min_free_kbytes", 1e-3, little, enough, [little, enough])

    def search(*arguments, tell, **named):
        tell(little)
        tell(enough)
        return found

    monkeypatch.setattr("fastalloc.sweep.reserve.reserve", search)
    monkeypatch.setattr("fastalloc.sweep.frontier.run_lanes", fake_batch.run_lanes)
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    done = ran(*SENTENCES[name])
    lines = [line for line in (done.out + done.err).splitlines() if "fastalloc " not in line]
    assert len(lines) > 1, done.err
    assert [line for line in lines if len(line) > int(columns or 80)] == []


def test_a_sentence_goes_on_below_its_first_word(monkeypatch):
    assert fitted("rules:       one two three four five six seven eight", 40) == (
        "rules:       one two three four five six\n             seven eight"
    )
    assert fitted("next    open the report in a browser, now or later", 40) == (
        "next    open the report in a browser,\n        now or later"
    )
    assert fitted("one two three four five six seven eight nine", 40).splitlines()[1] == "    nine"
    command = "fastalloc rerun d 9 --debug --trust"
    assert command in fitted(f"lane 3 of fix at 1 s broke; again with: {command}; 2 more", 40).splitlines()[1]
    assert fitted("a/path/without/any/blank/that/is/longer/than/forty/columns", 40).count("\n") == 0


def test_a_pipe_without_columns_has_80(ran, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert max(map(len, ran("report", "d").out.splitlines())) <= 80
    assert "\x1b" not in ran("report", "d").out
    table = ran("report", "d", "--wide").out.splitlines()
    assert "deepest" in table[0]
    assert len(table[0]) > 150, "all in a line"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_of_a_terminal(monkeypatch, no_color, coloured):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", no_color) if no_color else monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table()
    table.add_column("variant", style="red")
    table.add_row("rc8")
    table.put(console())
    assert ("\x1b[31m" in stream.getvalue()) is coloured


def test_every_character_is_there_in_ascii(ran, given, monkeypatch):
    for words in [*COMMANDS.values(), *LISTS]:
        if words[0] in ("compare", "run"):
            continue
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        monkeypatch.setattr(sys, "argv", ["fastalloc", *map(str, words)])
        with pytest.raises(SystemExit):
            main()
        assert rb"\x" not in raw.getvalue(), words
        assert rb"\u" not in raw.getvalue(), words


def test_a_table_gives_up_columns_by_rank_and_then_its_shape(monkeypatch, capsys):
    def shown(columns, wide=False):
        monkeypatch.setenv("COLUMNS", str(columns))
        show_all_columns(wide)
        table = Table()
        for rank, name in enumerate(("variant", "often asked", "seldom asked")):
            table.add_column(name, no_wrap=True, rank=rank)
        table.add_row("rc8", "1", "2")
        table.put(console())
        show_all_columns(False)
        return capsys.readouterr().out.splitlines()

    assert shown(60)[1].split() == ["rc8", "1", "2"]
    assert shown(30)[0].split() == ["variant", "often", "asked"]
    assert shown(30)[2].startswith("--wide shows more: seldom")
    assert shown(30, wide=True) == ["rc8", "  often asked   1", "  seldom asked  2"]


def test_a_livelock_of_60_s_is_told_only_where_the_run_could_show_one(ran):
    assert "> 60 s" not in ran("report", "d", "--wide").out, "each lane ran for 40 s"


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (("rnu", "swap-livelock"), "did you mean 'run'?"),
        (("scenarios", "shwo"), "did you mean 'show'?"),
        (("scenarios", "show", "swap-livelok"), "did you mean 'swap-livelock'?"),
        (("run", "swap-livelok"), "did you mean 'swap-livelock'?"),
        (("run", "swap-livelock", "--variant", "nomerg"), "did you mean 'nomerge'?"),
        (("compare", "swap-livelock", "--policies", "nomerge_bio"), "did you mean 'nomerge-bio'?"),
        (("policies", "fixx"), "did you mean 'fix'?"),
        (("run", "swap-livelock", "--set", "policy.comand_rule=fix"), "did you mean 'command_rule'?"),
        (("run", "swap-livelock", "--set", "polcy.command_rule=fix"), "did you mean 'policy'?"),
        (("run", "swap-livelock", "--set", "policy.command_rule=fox"), "'rc8', 'fix', 'prealloc' or 'consolidated'"),
        (("run", "swap-livelock", "--set", "copiers=3"), "did you mean 'workload.copiers'?"),
        (("run", "swap-livelock", "--set", "machine.zones.DMA3.min=3"), "did you mean 'DMA32'?); there are DMA, DMA32"),
        (("run", "swap-livelock", "--policies", "fix,nomrge-bio"), "nomrge-bio: no such policy (did you mean"),
        (("run", "swap-livelock", "--policy", "fix+nomrge-bio"), "did you mean 'nomerge-bio'?"),
        (("run", "swap-livelock", "--policies", "FIX"), "did you mean 'fix'?"),
        (("run", "swap-livelock", "--policies", "mine.pi"), "a file of your own ends in .py"),
        (("run", "swap-livelock", "--policies", "none.py"), "none.py: No such file"),
        (("frontier", "swap-livelock", "--of", "machine.min_fre_kbytes"), "did you mean 'machine.min_free_kbytes'?"),
        (("frontier", "swap-livelock", "--of", "host.free_list", "--policies", "fixx"), "did you mean 'fix'?"),
        (("reserve", "linux-2.6.25-rc8-512m", "--burst", "pages=9", "--policies", "fixx"), "did you mean 'fix'?"),
        (("rare", "swap-livelock", "--policies", "fixx"), "did you mean 'fix'?"),
        (("compare", "swap-livelock", "--policies", ""), "policies: an empty name"),
        (("run", "swap-livelock", "--policies", "fix,,rank"), "policies: an empty name"),
        (("run", "swap-livelock", "--policies", "zzz"), "watermarks-6.3, write-gate"),
        (("run", "swap-livelock", "--seconds", "-1"), "--seconds: -1: must be above 0"),
        (("run", "swap-livelock", "--seed", 1 << 63), "--seed: 9223372036854775808: must be less than or equal to"),
        (("reserve", "linux-2.6.25-rc8-512m", "--burst", "page=9"), "did you mean 'pages'?"),
        (("reserve", "linux-2.6.25-rc8-512m", "--burst", "pages=9,pages=8"), "pages is told twice"),
        (("rare", "swap-livelock", "--event", "livelok"), "did you mean 'livelock'?"),
        (("rare", "swap-livelock", "--per", "machine-dya"), "did you mean 'machine-day'?"),
        (("rare", "swap-livelock", "--stress", "machine.min_fre_kbytes"), "did you mean 'machine.min_free_kbytes'?"),
        (("caches", "--size", 100, "--what-if", "kernal=6.1"), "did you mean 'kernel'?"),
        (("schema", "scenaro"), "did you mean 'scenario'?"),
    ],
)
def test_what_is_misspelt_is_guessed(fastalloc, words, guess):
    done = fastalloc(*words)
    assert (done.code, done.out) == (2, "")
    assert guess in done.err
    assert done.err.count("\n") == 1


def test_all_faults_of_a_file_at_once_in_its_words(fastalloc, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nmachine = "linux-2.6.25-rc8-512m"\n[disk]\niops = -1\nspeed = 3\n[host]\nqueue_depth = "two"\n'
    )
    done = fastalloc("run", file)
    assert done.err.splitlines() == [
        f"{file}: host.queue_depth: must be a valid integer, not 'two'",
        f"{file}: disk.iops: must be greater than or equal to 1, not -1",
        f"{file}: disk.speed: unknown key",
    ]
    file.write_text(
        'name = "mine"\nmachine = "linux-2.6.25-rc8-512m"\n'
        '[[variants]]\nname = "a"\nset = {"disk.iop" = 3}\n[[variants]]\nname = "b"\nset = {"hosts.free_list" = 2}\n'
    )
    first, second = fastalloc("run", file).err.splitlines()
    assert "variant a: disk.iop: unknown key (did you mean 'iops'?)" in first
    assert "variant b: hosts.free_list: names no field: there is no 'hosts' (did you mean 'host'?)" in second


def test_names_of_other_files_are_told_with_the_faults_beside_them(fastalloc, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nmachine = "linux-2.6.25"\npolicy = "fixx"\n[disk]\niopss = 1\n'
        '[[variants]]\nname = "a"\npolicy = "slabb"\n[[variants]]\nname = "b"\nset = {"disk.iops" = -3}\n'
    )
    lists = "; `fastalloc policies` lists them"
    assert fastalloc("run", file).err.splitlines() == [
        f"{file}: machine: 'linux-2.6.25' is neither a file nor one of linux-2.6.25-rc8-256m, linux-2.6.25-rc8-512m "
        "(did you mean 'linux-2.6.25-rc8-512m'?)",
        f"{file}: disk.iopss: unknown key (did you mean 'iops'?)",
        f"{file}: variant a: policy: slabb: no such policy (did you mean 'slab'?){lists}",
        f"{file}: variant b: disk.iops: must be greater than or equal to 1, not -3",
    ]
    file.write_text(file.read_text().replace("linux-2.6.25", "linux-2.6.25-rc8-512m"))
    told = fastalloc("run", file).err.splitlines()
    assert told[0] == f"{file}: policy: fixx: no such policy (did you mean 'fix'?){lists}"
    assert len(told) == 4


def test_a_value_of_several_kinds_is_refused_in_words_of_the_file(fastalloc, tmp_path):
    """Neither the kinds nor the classes that check them are told."""
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "a b"\nscenario = "swap-livelock-34"\nvariants = 3\n[axes]\n"host.free_list" = [[1], 2]\n'
        '"disk.iops" = {start = 1, stopp = 3}\n"host.queue_depth" = {start = "a", stop = 3, count = 0}\n'
        '"host.can_queue" = []\n"machine.hz" = "x"\nHz = [1]\n'
    )
    *told, last = fastalloc("sweep", file, "--dry-run").err.splitlines()
    assert told == [
        f"{file}: name: must be letters, digits, _, ., + and -, a letter or digit first, not 'a b'",
        f"{file}: variants: must be a list, not 3",
        f"{file}: axes.host.free_list[1 of 2]: must be a valid boolean or a valid integer or a valid number or a valid "
        "string",
        f"{file}: axes.disk.iops.stop: is missing",
        f"{file}: axes.disk.iops.stopp: unknown key",
        f"{file}: axes.host.queue_depth.start: must be a valid integer or a valid number, not 'a'",
        f"{file}: axes.host.queue_depth.count: must be greater than or equal to 1, not 0",
        f"{file}: axes.host.can_queue: must have at least one entry",
        f"{file}: axes.machine.hz: must be a list or a table, not 'x'",
        f"{file}: axes.Hz: must be a dotted name such as machine.hz, not 'Hz'",
    ]
    assert "scenario: 'swap-livelock-34' is neither a file" in last


def test_entries_of_a_list_are_named_or_counted_as_in_the_file(fastalloc, tmp_path):
    file = tmp_path / "mine.toml"
    zone = '[[machine.zones]]\nname = "{}"\npresent = {}\nmin = 1\nlow = 2\nhigh = 3\npcp_high = 1\npcp_batch = 1\n'
    file.write_text(
        'name = "mine"\n[machine]\nname = "m"\n'
        + zone.format("DMA", 9) + "protection = [0]\n" + zone.format("Normal", -9) + "protection = [0, 0]\npresnt = 4\n"
        + "[[workload.bursts]]\npages = 3\n[[workload.bursts]]\npages = -3\n"
    )  # fmt: skip
    assert fastalloc("run", file).err.splitlines() == [
        f"{file}: machine.zones[Normal].present: must be greater than 0, not -9",
        f"{file}: machine.zones[Normal].presnt: unknown key (did you mean 'present'?)",
        f"{file}: workload.bursts[2 of 2].pages: must be greater than or equal to 0, not -3",
    ]
    done = fastalloc("run", "swap-livelock", "--set", "machine.zones.DMA32.min=-1")
    assert "--set: machine.zones[DMA32].min: must be greater than or equal to 0, not -1" in done.err


def test_a_shown_preset_runs_as_the_preset_does(fastalloc, tmp_path):
    from fastalloc.scenario import load_scenario, preset_names

    for name in preset_names():
        text = fastalloc("scenarios", "show", name).out
        file = tmp_path / "mine.toml"
        file.write_text(text)
        assert load_scenario(file) == load_scenario(name)
    assert "copiers = 10 # tasks that copy a tree" in fastalloc("scenarios", "show", "swap-livelock-34m").out


def test_init_makes_a_folder_that_runs(fastalloc):
    done = fastalloc("init", "mine")
    assert done.code == 0
    run, compare = (line.split()[1:] for line in done.out.splitlines() if line.startswith("  fastalloc "))
    assert fastalloc(*run).code == 0
    assert fastalloc(*compare).code == 0
    again = fastalloc("init", "mine")
    assert again.code == 2
    assert "is there already" in again.err


def test_a_run_ends_with_what_to_look_at_next(ran):
    told = ran("run", "swap-livelock", "--lanes", 2, "--seconds", 40, "--out", "e").err
    assert "swap-livelock: 2 machines of 40 s under each of 4 variants" in told
    words = next(line for line in told.splitlines() if "fastalloc rerun" in line).partition("#")[0].split()[1:]
    assert ran(*words).code == 0


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("fastalloc run swap", "swap-livelock-34m"),
        ("fastalloc front", "frontier"),
        ("fastalloc compare swap-livelock --policies fix,nomerge-s", "fix,nomerge-sense"),
    ],
)
def test_names_are_completed(fastalloc, monkeypatch, typed, completed):
    monkeypatch.setenv("_FASTALLOC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert completed in fastalloc().out.split()
