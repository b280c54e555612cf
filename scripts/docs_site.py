"""The hook of mkdocs.yml: brings files outside `docs/` into the site.

A page of `docs/` may link to any file of the repository. The site has no repository beside it, so
each linked file is added to it under `repository/`: Markdown as a page, everything else as it is.
A link to a folder becomes plain text. The pages on disk stay as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PREFIX = "repository"
# The text and the target of a link whose target is not an address or an anchor.
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
# Code is no place for links.
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def _root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).resolve().parent


def _repository_path(site_path: str) -> str:
    """Where a page of the site is in the repository, relative to its root."""
    prefix = PREFIX + "/"
    return site_path[len(prefix):] if site_path.startswith(prefix) else f"docs/{site_path}"


def _links(text: str, path: str) -> set[str]:
    """The repository paths that a page at `path` links to."""
    prose = CODE.sub("", text)
    return {posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            for _, target, _ in LINK.findall(prose)}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files outside `docs/` that pages link to, and those that these link to."""
    root = _root(config)
    unread = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    unread += [_repository_path(path) for path in _nav_paths(config.nav) if path.startswith(PREFIX)]
    known = set(unread)
    while unread:
        path = unread.pop()
        if not (root / path).is_file():
            continue  # mkdocs reports the dead link
        if not path.startswith("docs/"):
            files.append(File.generated(config, f"{PREFIX}/{path}", abs_src_path=str(root / path)))
        if path.endswith(".md"):
            new = _links((root / path).read_text(encoding="utf-8"), path) - known
            new = {other for other in new if not other.startswith(("docs/", "../"))}
            known |= new
            unread += sorted(new)
    return files


def _nav_paths(nav: object) -> list[str]:
    """The paths of all pages in a navigation tree."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav or []
    return [path for part in parts for path in _nav_paths(part)]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page to where their targets are in the site."""
    root, here = _root(config), page.file.src_uri
    path = _repository_path(here)

    def rewrite(match: re.Match) -> str:
        text, target, anchor = match.groups()
        to = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if (root / to).is_dir():
            return text
        site = to[len("docs/"):] if to.startswith("docs/") else f"{PREFIX}/{to}"
        return f"[{text}]({posixpath.relpath(site, posixpath.dirname(here) or '.')}{anchor or ''})"

    parts = CODE.split(markdown)
    # Every second part is code.
    parts[::2] = [LINK.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)
