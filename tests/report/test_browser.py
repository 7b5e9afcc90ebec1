"""The page in a real browser: phone, 200 % zoom, dark and print; keyboard; and what axe finds (`make test-browser`)."""

import shutil

import pytest

from fastalloc.report.html import write_report
from fastalloc.report.replay_page import write_replay_page
from fastalloc.trace.replay.recording import beside, open_recording
from fastalloc.trace.replay.results import write_results
from tests.geometry.shared import DATA

playwright = pytest.importorskip("playwright.sync_api", reason="the group `browser` is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the group `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

RUN = DATA / "traces" / "d_stack_k612.events.parquet"
DRAWN = "document.documentElement.dataset.drawn"
WINDOWS = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 375, "height": 800}, "color_scheme": "dark"},
    "zoom": {"viewport": {"width": 640, "height": 450}},  # what 200 % leaves of a small screen
}


@pytest.fixture(scope="module")
def browser():
    """One for all tests: Playwright runs once a process."""
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def shown(browser, path, window):
    """A page as it is drawn in a window, and what its console says."""
    page, said = browser.new_context(**WINDOWS[window], offline=True).new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"file://{path}")
    page.wait_for_function(DRAWN, timeout=120_000)
    return page, said


@pytest.fixture(scope="module")
def pages(dataset, browser):
    """The page open in each window, with what its console said."""
    path = write_report(dataset)
    return {name: shown(browser, path, name) for name in WINDOWS}


@pytest.mark.parametrize("window", WINDOWS)
def test_no_error_and_nothing_beside_the_window(pages, window):
    page, said = pages[window]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("window", ["desk", "phone"])
def test_axe_finds_nothing(pages, window):
    found = axe.Axe().run(pages[window][0]).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []


def test_the_slider_moves_by_keyboard_and_tells_the_instant(pages):
    page, _ = pages["desk"]
    page.focus("#instant")
    page.keyboard.press("Home")
    assert page.inner_text("#at") == "0.0 s"
    page.keyboard.press("End")
    assert page.get_attribute("#instant", "aria-valuetext") == page.inner_text("#at") != "0.0 s"
    told = page.locator(".told").all_inner_texts()
    assert len(told) == 2
    assert all(told)
    page.keyboard.press("Home")
    page.click("#play")
    page.wait_for_function("Number(document.getElementById('instant').value) > 2")
    page.click("#play")
    assert page.inner_text("#play") == "Play"


def test_labels_of_a_chart_do_not_overlap(pages):
    """Names in the chart of costs, and the figures along each axis."""
    overlapping = pages["desk"][0].evaluate(
        """() => [...document.querySelectorAll(".chart svg")].flatMap((svg) => {
          const boxes = [...svg.querySelectorAll("g.mark-text.role-mark text, g.role-axis-label text")]
            .filter((text) => text.textContent && text.style.opacity !== "0" && text.getAttribute("opacity") !== "0")
            .map((text) => [text.textContent, text.getBoundingClientRect()]);
          return boxes.flatMap(([name, a], i) => boxes.slice(i + 1)
            .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1)
            .filter(([, b]) => a.top < b.bottom - 3 && b.top < a.bottom - 3)
            .map(([other]) => `${name} on ${other}`));
        })"""
    )
    assert overlapping == []


def test_it_prints_light_and_whole(pages):
    page, _ = pages["phone"]
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('.mover')).position") == "static"
    assert len(page.pdf()) > 20_000


def test_the_page_is_below_two_megabytes(dataset):
    assert write_report(dataset).stat().st_size < 2_000_000


def test_who_holds_the_memory_can_be_pointed_at_and_walked_through(browser, tmp_path):
    """The page of a replay on a phone in the dark: what a frame is, by pointer and by keys; nothing for axe."""
    recording = open_recording(RUN, beside(RUN, "slabstate"), None, "6.12", "slab_nomerge")
    write_results(tmp_path, recording, recording.run([], 1), "fastalloc replay")
    path = write_replay_page(tmp_path)
    page, said = shown(browser, path, "phone")
    whole = page.inner_text("#flame-told")
    assert whole.startswith("all slabs: ")
    page.focus(".flame .frame[tabindex='0']")
    page.keyboard.press("ArrowDown")
    cache = page.inner_text("#flame-told")
    assert "of all slabs" in cache != whole
    page.keyboard.press("ArrowDown")
    holder = page.inner_text("#flame-told")
    assert f" in {cache.split(':')[0]}: " in holder
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#flame-told") != holder
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#flame-told") == whole
    page.hover(".flame .row:nth-child(2) .frame:nth-child(2)")
    assert page.inner_text("#flame-told") not in (whole, cache)
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = axe.Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []
