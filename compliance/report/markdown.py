"""Markdown that GitHub shows as it was meant, whatever the logs behind it say.

What a log or a path may choose stands in code spans: no markup, link, mention or
reference comes out of one. Words of our own are escaped.
"""

from __future__ import annotations

import re
from typing import Any, Sequence

from compliance.report.text import plain

_MARKUP = re.compile(r"([\\`*_\[\]<>#~|&$])")
# GitHub finds these after Markdown is done, so that a backslash is of no use: mentions and
# mail (but not HR@10), references to issues, bare addresses. A zero-width space parts them.
_LINKS = re.compile(r"@(?!\d+(?![\w.]))|#(?=\d)|:(?=//)|www(?=\.)", re.IGNORECASE)
_ZERO_WIDTH = "\u200b"


def escaped(text: Any) -> str:
    """One line of text that shows as it is."""
    parted = _LINKS.sub(lambda match: match[0] + _ZERO_WIDTH, plain(text))
    return _MARKUP.sub(r"\\\1", parted)


def code(text: Any) -> str:
    """The text as a code span; nothing where there is none."""
    text = plain(text)
    if not text.strip():
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], kinds: str = "") -> str:
    """A table; `kinds` as in `tables.render`."""
    kinds = kinds.ljust(len(header), "l")
    lines = [[escaped(cell) for cell in header],
             ["---:" if kind == "r" else "---" for kind in kinds],
             *([_cell(cell, kind) for cell, kind in zip(row, kinds)] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _cell(text: str, kind: str) -> str:
    if kind != "c" or text in ("", "-"):
        return escaped(text)
    # A bar ends a cell even in a code span; so would one behind an even number of backslashes.
    return re.sub(r"(\\*)\|", r"\1\1\\|", code(text))


def page(title: str, *parts: str) -> str:
    """A title and paragraphs; what is empty is left out."""
    return "\n\n".join([f"## {escaped(title)}", *filter(None, parts)])


def listed(items: Sequence[str]) -> str:
    """A list of what is Markdown already."""
    return "\n".join(f"- {item}" for item in items)
