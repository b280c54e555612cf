"""Rows of text as a table, CSV, Markdown; JSON without NaN."""

from __future__ import annotations

import json
import math
from typing import Any, Sequence

FORMATS = ("table", "json", "csv", "markdown")
Rows = Sequence[Sequence[str]]


def plain(text: Any) -> str:
    """One printable line: control characters (a log's own, say) are escaped."""
    text = str(text)
    return text if text.isprintable() else "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in text)


def render(header: Sequence[str], rows: Rows, form: str, right: str = "") -> str:
    """The rows in one of the text formats.

    `right`: a letter a column, "r" for columns that stand to the right.
    """
    cells = [[plain(c) for c in row] for row in rows]
    if form == "csv":
        import csv
        import io
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([header, *cells])
        return out.getvalue().rstrip("\n")
    if form == "markdown":
        lines = [[c.replace("|", "\\|") for c in row] for row in (header, *cells)]
        rule = ["---:" if right[i:i + 1] == "r" else "---" for i in range(len(header))]
        return "\n".join("| " + " | ".join(row) + " |" for row in (lines[0], rule, *lines[1:]))
    width = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    lines = []
    for row in (list(header), ["-" * w for w in width], *cells):
        parts = [c.rjust(w) if right[i:i + 1] == "r" else c.ljust(w)
                 for i, (c, w) in enumerate(zip(row, width))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


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
    """A figure with so many decimals, or a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def share(value: Any) -> str:
    """A hit rate with four digits, never rounded up to look like a target reached."""
    if value is None:
        return "-"
    return f"{math.floor(value * 10_000 + 1e-9) / 10_000:.4f}" if abs(value) < 1e6 else f"{value:.3g}"
