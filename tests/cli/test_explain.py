"""The command `fastalloc explain`: JSON, text, a page, a machine, refusals, and how soon it answers."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[1] / "data" / "memory_reports"
ATOMIC = REPORTS / "035-5.4.30-order0" / "input.txt"
BOOSTED = REPORTS / "075-6.19-kswapd" / "input.txt"


def explain(*arguments, text=None):
    command = [sys.executable, "-m", "fastalloc.cli.main", "explain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, input=text, check=False)


def test_json_has_the_fields_that_scripts_read():
    done = explain("--json", ATOMIC, BOOSTED)
    assert done.returncode == 0
    first, second = json.loads(done.stdout)
    assert first["kernel"] == "5.4.30"
    assert first["kernel_in_text"] is True
    assert (first["kind"], first["order"], first["mode"], first["verdict"]) == ("failure", 0, "0xa20", "below-mark")
    assert set(first["flags"]) == {"__GFP_HIGH", "__GFP_ATOMIC", "__GFP_KSWAPD_RECLAIM"}
    assert {"may_reclaim", "high", "harder", "memalloc", "cma_ok"} <= set(first["caller"])
    assert first["class_zone"] == "Normal"
    normal = first["zones"][2]
    assert {
        "node",
        "zone",
        "allowed",
        "free",
        "mark",
        "lowmem_reserve",
        "unusable",
        "available",
        "short_by",
        "verdict",
    } <= set(normal)
    assert (normal["mark"], normal["available"], normal["short_by"]) == (7842, 7764, 79)
    assert second["source"] == str(BOOSTED)
    assert "watermark_boost_factor" in second["try_first"][0]


def test_the_text_shows_the_sum_and_ends_in_what_to_try():
    said = explain(ATOMIC).stdout
    assert "Normal   7764         0    7764  20909  7842        0             7842        79  below-mark" in said
    assert "vm.watermark_boost_factor=0: Normal passes without its boost of about 7680 pages" in said
    assert "[below-mark]" in said


def test_a_report_comes_from_standard_input():
    done = explain("-", "--json", text=ATOMIC.read_text())
    assert json.loads(done.stdout)[0]["zones"][2]["short_by"] == 79


def test_the_page_needs_no_network_and_shows_every_zone(tmp_path):
    page = tmp_path / "page.html"
    assert explain(ATOMIC, BOOSTED, "--html", page).returncode == 0
    html = page.read_text()
    assert html.count("<svg") == 6
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "short by 79 pages" in html


def test_the_machine_of_a_report_is_one_that_runs(tmp_path):
    from fastalloc.scenario.machine import Machine

    file = tmp_path / "machine.toml"
    assert explain(ATOMIC, "--machine", file).returncode == 0
    machine = Machine.model_validate(tomllib.loads(file.read_text()))
    assert [(zone.name, zone.present, zone.min) for zone in machine.zones] == [
        ("DMA", 15908 // 4, 16),
        ("DMA32", 3588072 // 4, 3649),
        ("Normal", 12793540 // 4, 20909 - 7680),  # without its boost
    ]
    assert machine.zones[1].protection[2] == 12485
    assert machine.kernel == "5.4.30"
    assert machine.swap_pages == 4038652 // 4


def test_a_log_without_reports_is_refused_in_one_line(tmp_path):
    log = tmp_path / "boring.log"
    log.write_text("[    1.0] all is well\n")
    done = explain(log)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{log}: no memory report")
    assert "Traceback" not in done.stderr


def test_json_is_json_though_a_later_file_is_missing():
    done = explain("--json", ATOMIC, "nowhere.txt", BOOSTED)
    assert done.returncode == 2
    assert "nowhere.txt" in done.stderr
    assert [answer["verdict"] for answer in json.loads(done.stdout)] == ["below-mark", "below-mark"]
    assert explain("--json", "nowhere.txt").stdout == ""


def test_an_unknown_option_is_refused():
    done = explain(ATOMIC, "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr


def test_it_answers_without_the_libraries_that_take_long_to_load():
    code = (
        "import sys; from fastalloc.cli.main import main\n"
        f"sys.argv = ['fastalloc', 'explain', {str(ATOMIC)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numba', 'numpy', 'polars', 'pydantic', 'typer', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("name", ["--help", "-h"])
def test_help_names_the_options(name):
    said = explain(name).stdout
    for option in ("--json", "--html", "--machine"):
        assert option in said
