"""The page: one file, no network, and charts that a browser draws."""

import re
import shutil
import subprocess

import pytest
import vl_convert

from fastalloc.compiler.cache_dir import own_folder
from fastalloc.errors import InputError
from fastalloc.report import filled, html
from fastalloc.report.html import render, write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--window-size=1280,4000",
    "--virtual-time-budget=20000",
    "--enable-logging=stderr",
    "--v=0",
)


@pytest.fixture(scope="module")
def page(dataset):
    return write_report(dataset)


def browse(page, *flags):
    return subprocess.run(
        [BROWSER, *FLAGS, *flags, f"file://{page}"], capture_output=True, text=True, timeout=120, check=True
    )


def drawn_part(text):
    """The page before its own scripts, which hold markup as text."""
    return text[: text.index("<script>")]


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_draws_every_chart_without_an_error(page, tmp_path):
    done = browse(page, "--dump-dom", f"--user-data-dir={tmp_path}")
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    page = drawn_part(done.stdout)
    charts = page.count('class="chart')
    assert charts == 3 + 2 * 6 + 1  # strips, figures of two lanes, the board's
    assert page.count("<svg") == charts
    assert f'data-drawn="{charts}"' in page
    assert page.count('class="mark-') > 5 * charts


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_narrow_dark_window(page, tmp_path):
    flags = ("--force-dark-mode", "--window-size=420,6000", "--dump-dom", f"--user-data-dir={tmp_path}")
    assert "CONSOLE" not in browse(page, *flags).stderr


def test_one_file_that_loads_nothing(page):
    text = page.read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=|@import|url\(", drawn_part(text))
    assert text.count("window.vegaEmbed=") == 1


def test_the_page_tells_verdict_command_and_origin(dataset, page):
    text = page.read_text()
    assert re.search(r"\d+ of 12 machines livelocked under rc8; none under fix and nomerge\.", text)
    assert "fastalloc run swap-livelock" in text
    assert dataset.manifest["model_digest"][:12] in text
    assert "objects of slabs that <b>sense</b> allocated at 3/8 min went to <b>bio</b>" in text


def test_text_from_the_scenario_is_escaped(make_dataset):
    dataset = make_dataset(variants=("fix",), lanes=1)
    dataset.manifest["scenario"]["description"] = "<script>alert(1)</script>"
    assert "<script>alert(1)" not in render(dataset)


def test_other_file_and_folder_that_is_not_there(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(html, "render", lambda dataset, doubtful: "page")
    assert write_report(dataset, tmp_path / "page.html").exists()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(dataset, tmp_path / "none" / "page.html")


def test_the_first_screen_explains_its_terms_before_the_scenario_uses_them(dataset, page):
    page = page.read_text(encoding="utf-8")
    first = page[page.index('class="headline"') : page.index("<h2>Every lane</h2>")]
    told = first.index(dataset.manifest["scenario"]["description"][:30])
    assert all(first.index(f"<b>{term}</b>") < told for term in ("bio", "sense buffer", "slabs", "slots"))
    assert "idle reserve<br>kB" in page


def test_the_scripts_of_a_page_are_bundled_once(monkeypatch, tmp_path):
    """What is kept is what vl-convert gives; where nothing can be kept it is bundled anew."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    bundles = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda *args, **kwargs: bundles.append(args) or "scripts")
    assert [filled._vega.__wrapped__() for _ in range(3)] == ["scripts"] * 3
    assert len(bundles) == 1
    (kept,) = tmp_path.rglob("*.js")
    kept.unlink()
    kept.mkdir()
    assert filled._vega.__wrapped__() == "scripts"
    assert len(bundles) == 2
    kept.parent.chmod(0o777)
    own_folder.cache_clear()
    assert filled._vega.__wrapped__() == "scripts"
    assert len(bundles) == 3
