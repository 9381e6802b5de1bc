"""The built book: every link and figure is there, and every page does well in a real browser, offline, on a phone.

Without a book (`make book`), Playwright or Chromium the tests skip, and say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from study.paths import NOTEBOOKS, ROOT

BOOK = ROOT / "docs" / "_build" / "html"
AXE = ROOT / "docs" / "_build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = sorted(str(path.relative_to(BOOK)) for path in BOOK.rglob("*.html") if path.parent.name != "_static")
READ = [page for page in PAGES if not page.startswith("_modules")]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
PHONE = {"width": 390, "height": 844}
PATIENCE = 120_000  # milliseconds: a page takes one second, and many where other programs compute

pytestmark = pytest.mark.skipif(not READ, reason="there is no book in docs/_build/html: run `make book`")

LOOK = """() => ({
    wide: document.documentElement.scrollWidth - window.innerWidth,
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
    nameless: [...document.images].filter(i => !i.alt.trim()).map(i => i.src),
    formulas: document.querySelectorAll(".math").length,
    drawn: document.querySelectorAll(".math mjx-container").length,
    wrong: [...document.querySelectorAll("[data-mml-node=merror]")].map(e => e.textContent),
})"""


class Seen(HTMLParser):
    """The addresses that a page has, and those that it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: set[str] = {""}
        self.named: set[str] = set()
        self.feed((BOOK / page).read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        self.named |= {found[key] for key in ("href", "src") if found.get(key)}


def test_every_internal_link_and_image_resolves() -> None:
    seen = {page: Seen(page) for page in PAGES}
    dangling, followed = [], 0
    for page, found in seen.items():
        if page not in READ:  # a listing's links back to where its objects are said again
            continue
        for address in found.named:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (BOOK / page).parent / unquote(parts.path) if parts.path else BOOK / page
            name = str(target.resolve().relative_to(BOOK))
            followed += 1
            if not target.is_file() or (name in seen and unquote(parts.fragment) not in seen[name].ids):
                dangling.append(f"{page}: {address}")
    assert not dangling
    assert followed > 10 * len(READ)


def test_every_chapter_is_a_page() -> None:
    chapters = {f"notebooks/{path.stem}.html" for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert chapters <= set(PAGES), "the book is older than the chapters: run `make book` again"


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    """A tab of Chromium as wide as a phone's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not here: `make book` installs it")
    if BROWSER is None:
        pytest.skip("there is no Chromium: `apt-get install chromium`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport=PHONE)
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


@pytest.fixture
def visit(tab: Any) -> Iterator[Any]:
    """Open a page; whatever goes wrong meanwhile, and every address outside the book, is an error at the end."""
    errors: list[str] = []
    listeners = {
        "console": lambda message: errors.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: errors.append(str(error)),
        "requestfailed": lambda request: errors.append(f"failed: {request.url}"),
        "request": lambda request: None if request.url.startswith(("file:", "data:")) else errors.append(request.url),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)

    def go(page: str) -> Any:
        tab.goto((BOOK / page).as_uri(), wait_until="load")
        tab.evaluate("() => window.MathJax?.startup?.promise")
        return tab

    yield go
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert errors == []


@pytest.mark.parametrize("page", READ)
def test_a_page_fits_a_phone_and_shows_all_that_it_has(visit: Any, page: str) -> None:
    tab = visit(page)
    look = tab.evaluate(LOOK)
    assert look["wide"] <= 0, "scrolls sideways"
    assert (look["broken"], look["nameless"], look["wrong"]) == ([], [], [])
    assert look["drawn"] >= look["formulas"]
    tab.add_script_tag(path=str(AXE))
    found = tab.evaluate("() => axe.run({preload: false, runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")
    wrong = {rule["id"]: [node["target"] for node in rule["nodes"]][:3] for rule in found["violations"]}
    assert wrong == {}


def test_search_finds_a_term(visit: Any) -> None:
    tab = visit("search.html")
    tab.goto((BOOK / "search.html").as_uri() + "?q=amplification")
    tab.wait_for_selector("#search-results li a")
    assert "amplification" in tab.inner_text("#search-results").lower()


def test_a_click_enlarges_a_figure_and_escape_closes_it(visit: Any) -> None:
    tab = visit("notebooks/00_start_here.html")
    tab.click("button.zoom >> nth=0")
    assert tab.is_visible("dialog.zoomed img")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("dialog.zoomed", state="hidden")


def test_a_chapter_names_what_the_other_pages_explain() -> None:
    named = Seen("notebooks/03_coverage_vs_selection.html").named
    assert any(address.startswith("../docs/glossary.html#term-") for address in named)
    assert any(address.startswith("../api/stemlib.theory.coverage.html#") for address in Seen("docs/theory.html").named)


@pytest.mark.parametrize("page", ["index.html", "search.html"])
def test_the_book_names_no_script_font_or_picture_outside(page: str) -> None:
    outside = [
        line
        for line in (BOOK / page).read_text().splitlines()
        if 'src="http' in line or 'stylesheet" href="http' in line
    ]
    assert outside == []
