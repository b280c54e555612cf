"""The pages of `report` and `compare` in a real browser, read from disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from compliance.__main__ import main
from scripts.report_picture import BROWSERS
from tests.compliance.report.test_html_report import hostile_set
from tests.support.logs.log_builder import bad_log, write_log
from tests.support.logs.run_sets import write_set

WIDTHS = (360, 800, 1400)
PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)

# Elements with their own text whose contrast is too low, as "ratio text".
CONTRAST = """() => {
  const parts = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) =>
    v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  let seen = 0;
  for (const e of document.body.querySelectorAll("*")) {
    const own = Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!own || !box.width || ["SCRIPT", "TITLE", "title"].includes(e.tagName)) continue;
    seen += 1;
    const [a, b] = [parts(e instanceof SVGElement ? style.fill : style.color), behind(e)]
      .map((c) => light(c) + 0.05);
    const ratio = Math.max(a, b) / Math.min(a, b);
    if (ratio < 4.5) low.push(ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 40));
  }
  return [seen, low];
}"""


@pytest.fixture(scope="module")
def browser():
    if PROGRAM is None:
        pytest.skip("no Chromium found: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as program:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium requires it for root
        browser = program.chromium.launch(executable_path=PROGRAM, args=root)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Pages of a passing, a failing and a hostile set, many runs, several sets, a comparison."""
    top = tmp_path_factory.mktemp("pages")
    good = write_set(top / "good", [7, 8, 9, 7, 8])
    other = write_set(top / "other", [7, 25, 9, 7, 8], missed=[1], epoch_ms=500)
    write_set(top / "failed", [7, 8, 9])
    write_log(top / "failed" / "result_1.txt", bad_log("top k")[0])
    write_set(top / "several" / "a", [7])
    write_set(top / "several" / "b", [8])
    many = write_set(top / "many", [7, 8, 9] * 10, missed=[3, 9])
    hostile = hostile_set(top / "hostile")
    asked = {"good": ["report", good], "failed": ["report", top / "failed"],
             "many": ["report", many], "several": ["report", top / "several"],
             "hostile": ["report", hostile], "compare": ["compare", good, other]}
    for name, words in asked.items():
        assert main([*map(str, words), "--html", str(top / f"{name}.html")]) == 0
    return {name: top / f"{name}.html" for name in asked}


NAMES = ("good", "failed", "many", "several", "hostile", "compare")


class Opened:
    """An open page, with its console messages and its requests."""

    def __init__(self, browser, path: Path, width: int = 1400, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900},
                                           color_scheme=scheme)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.said.append("a dialog"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.uri = path.as_uri()
        self.tab.goto(self.uri)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.context.close()


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_every_width_and_is_quiet(browser, pages, name):
    for width in WIDTHS:
        with Opened(browser, pages[name], width) as page:
            inside = page.tab.evaluate("document.documentElement.scrollWidth")
            assert inside <= width, f"{inside} pixels in {width}"
            # Text stays inside its box, except in boxes that scroll.
            wide = page.tab.evaluate("""() => Array.from(document.querySelectorAll(
                "main p, main h1, main h2, main h3, main dd, main figcaption, main pre, main svg"))
                .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
                .map((e) => e.textContent.slice(0, 40))""")
            assert wide == []
            assert page.said == [] and page.asked == [page.uri]


def test_a_table_that_is_too_wide_has_a_cue(browser, pages):
    """A word beside its name, and shadows at its edges, which need no script."""
    cued = {}
    for width in (390, 1400):
        with Opened(browser, pages["good"], width) as page:
            cued[width] = page.tab.evaluate("""() => Array.from(document.querySelectorAll(".block"),
                (block) => [getComputedStyle(block.querySelector(".head p"), "::after").content,
                            (({scrollWidth, clientWidth}) => scrollWidth > clientWidth + 1)(
                              block.querySelector(".scroll"))])""")
            assert all(("scroll" in cue) == is_wide for cue, is_wide in cued[width])
    assert any(is_wide for _, is_wide in cued[390])
    assert sum(w for _, w in cued[1400]) < sum(w for _, w in cued[390])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_text_is_told_from_what_is_behind_it(browser, pages, name, scheme):
    for width in (360, 1400):
        with Opened(browser, pages[name], width, scheme) as page:
            page.tab.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
            seen, low = page.tab.evaluate(CONTRAST)
            assert seen > 100 and low == []


def test_narrow_places_have_a_plot_of_their_own(browser, pages):
    for width, kind in ((360, "narrow"), (1400, "wide")):
        with Opened(browser, pages["good"], width) as page:
            shown = page.tab.evaluate("""() => Array.from(document.querySelectorAll("svg.plot"))
                .filter((s) => s.getBoundingClientRect().width).map((s) => [s.classList[1],
                Math.min(...Array.from(s.querySelectorAll("text"), (t) =>
                    t.getBoundingClientRect().height))])""")
            assert len(shown) == 8 and {k for k, _ in shown} == {kind}
            assert min(height for _, height in shown) >= 9  # pixels, so that text is readable


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(browser, pages):
    with Opened(browser, pages["good"], 800) as page:
        reached = []
        for _ in range(80):
            page.tab.keyboard.press("Tab")
            found = page.tab.evaluate("""() => {
                const e = document.activeElement, s = getComputedStyle(e);
                const box = e.getBoundingClientRect();
                return e === document.body ? null : [e.id || e.textContent.trim().slice(0, 30)
                    || e.tagName, e.tagName, s.outlineStyle !== "none" && box.width > 0]; }""")
            if found is None:
                break
            reached.append(found)
        assert reached[0][0].startswith("Skip to") and reached[1][0] == "theme"
        assert all(visible for _, _, visible in reached)
        controls = page.tab.evaluate("""() => Array.from(document.querySelectorAll(
            "a[href], button, summary")).filter((e) => e.checkVisibility()).length""")
        assert sum(tag in ("A", "BUTTON", "SUMMARY") for _, tag, _ in reached) == controls > 12
        page.tab.keyboard.press("Escape")


def test_the_theme_can_be_chosen_and_is_kept(browser, pages):
    with Opened(browser, pages["good"], scheme="dark") as page:
        colour = "getComputedStyle(document.body).backgroundColor"
        dark = page.tab.evaluate(colour)
        page.tab.focus("#theme")
        page.tab.keyboard.press("Enter")
        assert page.tab.inner_text("#theme") == "Theme: light"
        assert page.tab.evaluate(colour) != dark
        page.tab.reload()
        assert page.tab.inner_text("#theme") == "Theme: light" and page.said == []


@pytest.mark.parametrize("allowed", [True, False])
def test_a_table_is_copied_as_a_spreadsheet_wants_it(browser, pages, allowed):
    with Opened(browser, pages["good"]) as page:
        if allowed:
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        else:  # the fallback for browsers without a clipboard for pages from disk
            page.tab.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        page.tab.evaluate("document.addEventListener('copy', () => { window.copied = "
                          "String(document.activeElement.value || ''); })")
        button = page.tab.locator("button[data-table=set-free]")
        button.focus()
        page.tab.keyboard.press("Enter")
        page.tab.wait_for_function("document.getElementById('status').textContent === 'Copied'")
        text = page.tab.evaluate("navigator.clipboard.readText()") if allowed \
            else page.tab.evaluate("window.copied")
        lines = [line.split("\t") for line in text.splitlines()]
        assert lines[0] == ["setting", "in the logs", "track's default", "closed division"]
        assert lines[1] == ["batch size", "4,096", "4,096", "free"] and len(lines) == 10
        assert page.tab.evaluate("document.activeElement.dataset.table") == "set-free"


def test_without_scripts_nothing_is_missing_but_the_buttons(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(pages["good"].as_uri())
    assert tab.locator("svg.wide:visible").count() == 8
    assert tab.locator("button:visible").count() == 0
    context.close()


@pytest.mark.parametrize("name", ["good", "compare", "failed"])
def test_it_prints(browser, pages, name, tmp_path):
    with Opened(browser, pages[name], 800, "dark") as page:
        data = page.tab.pdf(format="A4", print_background=True)
        count = sum(data.count(b"/Type /Page" + end) for end in (b"\n", b" "))
        assert data.startswith(b"%PDF") and 2 <= count <= 14
        page.tab.emulate_media(media="print")
        page.tab.set_viewport_size({"width": 690, "height": 1000})  # A4 without its margins
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= 690
        assert page.tab.locator("button:visible").count() == 0
        assert page.tab.evaluate("getComputedStyle(document.body).backgroundColor") \
            == "rgb(255, 255, 255)"  # dark paper would waste ink
        seen, low = page.tab.evaluate(CONTRAST)
        assert low == [] and page.said == []
