"""Rows as a table, as Markdown, as CSV; JSON without NaN."""

from __future__ import annotations

import json
import math
from typing import Any, Sequence

from compliance.report import markdown
from compliance.report.text import plain

FORMATS = ("table", "json", "csv", "markdown")
Rows = Sequence[Sequence[str]]


def render(header: Sequence[str], rows: Rows, form: str, kinds: str = "") -> str:
    """The rows as a table for a terminal, or as one for Markdown.

    `kinds`: a letter a column: "r" for figures, which stand to the right; "c" for what
    a log or a path may say as it likes, which Markdown shows as code; else plain words.
    """
    if form == "markdown":
        return markdown.table(header, rows, kinds)
    cells = [[plain(c) for c in row] for row in rows]
    width = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    lines = []
    for row in (list(header), ["-" * w for w in width], *cells):
        parts = [c.rjust(w) if kinds[i:i + 1] == "r" else c.ljust(w)
                 for i, (c, w) in enumerate(zip(row, width))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


# What a spreadsheet takes for the beginning of a formula, with its full-width forms.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """One table of typed values: a header line, then a line a row.

    Figures have all their digits, truth is true or false, what is unknown (None, or not
    finite) is empty. Text that a spreadsheet would take for a formula has an apostrophe
    before it (OWASP, "CSV Injection").
    """
    import csv
    import io
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [header, *([_csv_cell(value) for value in row] for row in rows)])
    return out.getvalue().rstrip("\n")


def _csv_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    text = plain(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def wrap(text: str, indent: int, width: int = 80) -> str:
    """Text broken into indented lines of at most `width` characters."""
    import textwrap
    return textwrap.fill(plain(text), width, initial_indent=" " * indent,
                         subsequent_indent=" " * indent, break_on_hyphens=False)


def clean(value: Any) -> Any:
    """The value with what JSON cannot carry replaced by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def as_json(value: Any) -> str:
    """JSON text, UTF-8 safe (lone surrogates are replaced) and without NaN."""
    text = json.dumps(clean(value), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8")


def number(value: float | None, digits: int) -> str:
    """A figure with so many decimals, or a dash; never minus nothing."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{round(value, digits) + 0.0:.{digits}f}"


def share(value: Any) -> str:
    """A hit rate with four digits, never rounded up to look like a target reached."""
    if value is None:
        return "-"
    return f"{math.floor(value * 10_000 + 1e-9) / 10_000:.4f}" if abs(value) < 1e6 else f"{value:.3g}"
