"""The documentation site: a strict build, complete, without resources from other sites."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.paths import ROOT

# Resources that a browser loads automatically: (element, attribute).
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
# A link element with another relation is only an address; the browser does not load it.
LOADING_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect"}


class Addresses(HTMLParser):
    """Collects the loaded resources, the links and the ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {value for name, value in attrs if name == "id" and value}
        if tag == "link" and not LOADING_RELATIONS & set((values.get("rel") or "").split()):
            return
        self.loaded += [value for name, value in attrs if (tag, name) in LOADED and value]
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


def build(root: Path, output: Path) -> subprocess.CompletedProcess:
    """Builds the site of a checkout in strict mode."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(output)],
        cwd=root, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    output = tmp_path_factory.mktemp("site")
    answer = build(ROOT, output)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return output


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Addresses]:
    return {page: Addresses(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}


def test_every_page_of_docs_is_in_the_site(site):
    missing = [page.name for page in (ROOT / "docs").glob("*.md")
               if not (site / f"{page.stem}.html").is_file()]
    assert missing == [] and (site / "repository" / "SECURITY.html").is_file()


def test_pages_load_nothing_from_elsewhere(site, pages):
    loaded = {address for page in pages.values() for address in page.loaded}
    assert loaded and [address for address in loaded if urlsplit(address).netloc] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_link_within_the_site_leads_to_a_file_and_an_anchor(site, pages):
    checked = 0
    for page, found in pages.items():
        if page.name == "404.html":
            continue  # its links start at the root of a server
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file() and site.resolve() in target.parents, (page.name, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids | {"__search"}, (page.name, link)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize("change, reason", [
    ("[dead](no-such-page.md)", "no-such-page.md"), ("[dead](running.md#no-such-part)", "no-such-part"),
    ("[dead](../no-such-file.py)", "no-such-file.py")])
def test_a_dead_link_fails_the_build(tmp_path, site, change, reason):
    checkout = copy_of_docs(tmp_path)
    with open(checkout / "docs" / "index.md", "a", encoding="utf-8") as page:
        page.write(f"\n{change}\n")
    answer = build(checkout, tmp_path / "site")
    assert answer.returncode != 0 and reason in answer.stderr


def test_a_page_that_the_navigation_lacks_fails_the_build(tmp_path, site):
    checkout = copy_of_docs(tmp_path)
    (checkout / "docs" / "orphan.md").write_text("# Orphan\n")
    answer = build(checkout, tmp_path / "site")
    assert answer.returncode != 0 and "orphan.md" in answer.stderr


def copy_of_docs(folder: Path) -> Path:
    """Makes a checkout of symbolic links, with copies of docs/ and of mkdocs.yml."""
    checkout = folder / "checkout"
    (checkout / "docs").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in ("docs", "build", "mkdocs.yml"):
            (checkout / path.name).symlink_to(path)
    (checkout / "mkdocs.yml").write_bytes((ROOT / "mkdocs.yml").read_bytes())
    for path in (ROOT / "docs").rglob("*"):
        target = checkout / "docs" / path.relative_to(ROOT / "docs")
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    return checkout
