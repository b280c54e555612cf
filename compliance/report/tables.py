"""Tables for a terminal and as CSV; wrapped text; JSON without NaN."""

from __future__ import annotations

import json
import math
from typing import Any, Sequence

from compliance.base.text import printable_line
from compliance.report import markdown

Rows = Sequence[Sequence[str]]
WIDTH = 80


def render_table(header: Sequence[str], rows: Rows, output_format: str, column_kinds: str = ""
                 ) -> str:
    """Formats rows as a table for a terminal or for Markdown.

    If a row of a terminal table would be wider than WIDTH because of its first cell, usually a
    path, that cell gets a line of its own, unbroken, and the other cells follow on the next line.

    Args:
      header: The names of the columns.
      rows: The cells of each row.
      output_format: "markdown", or any other for a terminal.
      column_kinds: A letter for each column: "r" for numbers, which are aligned to the
        right; "c" for text from a log or a path, which Markdown shows as code; any other
        letter for the project's own text, as for columns beyond the last letter.

    Returns:
      The table.
    """
    if output_format == "markdown":
        return markdown.table(header, rows, column_kinds)
    cells = [[printable_line(c) for c in row] for row in rows]
    width = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    others = sum(w + 2 for w in width[1:])
    if width[0] + others > WIDTH:
        fitting = [len(row[0]) for row in (header, *cells) if len(row[0]) + others <= WIDTH]
        width[0] = max(fitting, default=len(header[0]))
    lines = []
    for row in (list(header), ["-" * w for w in width], *cells):
        if len(row[0]) > width[0]:
            lines.append(row[0])
            row = ["", *row[1:]]
        parts = [c.rjust(w) if column_kinds[i:i + 1] == "r" else c.ljust(w)
                 for i, (c, w) in enumerate(zip(row, width))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


# Characters that begin a formula in a spreadsheet, with their full-width forms.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def to_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Formats one table of typed values as CSV.

    Numbers keep all their digits, booleans are true or false, and unknown values (None, or not
    finite) are empty. Text that a spreadsheet would interpret as a formula is prefixed with an
    apostrophe (OWASP, "CSV Injection").

    Args:
      header: The names of the columns.
      rows: The values of each row.

    Returns:
      A header line, then a line for each row, without a line break at the end.
    """
    import csv
    import io
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [header, *([_csv_cell(value) for value in row] for row in rows)])
    return out.getvalue().rstrip("\n")


def _csv_cell(value: Any) -> str:
    """Formats one value."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    text = printable_line(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def wrap_text(text: str, indent: int, width: int = WIDTH) -> str:
    """Breaks text between words into indented lines of at most `width` characters.

    A longer word, such as a path, is not broken.
    """
    import textwrap
    return textwrap.fill(printable_line(text), width, initial_indent=" " * indent,
                         subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False)


def _json_safe(value: Any) -> Any:
    """Replaces numbers that JSON cannot represent (NaN, infinity) with None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """Formats a value as JSON without NaN; replaces lone surrogates, which UTF-8 cannot encode."""
    text = json.dumps(_json_safe(value), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8")
