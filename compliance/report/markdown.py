"""Markdown that GitHub shows as intended for any contents of the logs.

Text from a log or a path is put in code spans, in which no markup, link, mention or reference
has an effect. The project's own text is escaped.
"""

from __future__ import annotations

import re
from typing import Any, Sequence

from compliance.base.text import printable_line

_MARKUP = re.compile(r"([\\`*_\[\]<>#~|&$])")
# GitHub detects these after parsing Markdown, so a backslash has no effect: mentions and mail
# (but not HR@10), references to issues, bare addresses. A zero-width space splits them.
_LINKS = re.compile(r"@(?!\d+(?![\w.]))|#(?=\d)|:(?=//)|www(?=\.)", re.IGNORECASE)
_ZERO_WIDTH = "\u200b"


def escape(text: Any) -> str:
    """Escapes text so that Markdown shows it as one line, unchanged."""
    parted = _LINKS.sub(lambda match: match[0] + _ZERO_WIDTH, printable_line(text))
    return _MARKUP.sub(r"\\\1", parted)


def code_span(text: Any) -> str:
    """Returns text as a code span, or an empty string if it is blank."""
    text = printable_line(text)
    if not text.strip():
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in (text[0], text[-1]) or text[0] == text[-1] == " " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], column_kinds: str = "") -> str:
    """Formats a table; `column_kinds` is as in `tables.render_table`."""
    column_kinds = column_kinds.ljust(len(header), "l")
    lines = [[escape(cell) for cell in header],
             ["---:" if kind == "r" else "---" for kind in column_kinds],
             *([_cell(cell, kind) for cell, kind in zip(row, column_kinds)] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _cell(text: str, kind: str) -> str:
    """Formats one cell."""
    if kind != "c" or text in ("", "-"):
        return escape(text)
    # A bar ends a cell even in a code span, also after an even number of backslashes.
    return re.sub(r"(\\*)\|", r"\1\1\\|", code_span(text))


def page(title: str, *parts: str) -> str:
    """Joins a title and paragraphs; empty paragraphs are left out."""
    return "\n\n".join([f"## {escape(title)}", *filter(None, parts)])


def bullet_list(items: Sequence[str]) -> str:
    """Formats items that are already Markdown as a list."""
    return "\n".join(f"- {item}" for item in items)
