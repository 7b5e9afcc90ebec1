"""The page in a real browser: phone, 200 % zoom, dark and print; keyboard; and what axe finds (`make test-browser`)."""

import shutil

import pytest

from fastalloc.report.html import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="the group `browser` is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the group `browser` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

DRAWN = "document.documentElement.dataset.drawn"
WINDOWS = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 375, "height": 800}, "color_scheme": "dark"},
    "zoom": {"viewport": {"width": 640, "height": 450}},  # what 200 % leaves of a small screen
}


@pytest.fixture(scope="module")
def pages(dataset):
    """The page open in each window, with what its console said."""
    path = write_report(dataset)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = {}
        for name, window in WINDOWS.items():
            page, said = browser.new_context(**window, offline=True).new_page(), []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto(f"file://{path}")
            page.wait_for_function(DRAWN, timeout=120_000)
            opened[name] = page, said
        yield opened
        browser.close()


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
