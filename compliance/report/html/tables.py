"""Tables of a page: cells are text, that the template escapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from compliance.report.html.limits import short
from compliance.report.tables import number


@dataclass(frozen=True)
class Table:
    """A table that can be copied.  `right`: columns of numbers.  `note`: what is left out."""

    key: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()
    note: str = ""
    folded: bool = False


def table(key: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]],
          note: str = "", folded: bool = False) -> Table:
    """columns: names; one that begins with ">" stands to the right."""
    right = frozenset(i for i, c in enumerate(columns) if c.startswith(">"))
    return Table(key, caption, [c.removeprefix(">") for c in columns],
                 [[short(cell) for cell in row] for row in rows], right, note, folded)


def left_out(what: str, shown: int, count: int, where: str) -> str:
    """The sentence on rows that a bounded table does not show."""
    return "" if shown >= count else (
        f"{shown:,} of {count:,} {what} are shown, to keep the page small; {where}")


def seconds(value: float | None) -> str:
    """Seconds as a reader wants them: three decimals, fewer where they say nothing."""
    if value is None:
        return "-"
    digits = 3 if abs(value) < 100 else 2 if abs(value) < 10_000 else 0
    return "-" if number(value, digits) == "-" else f"{value:,.{digits}f}" \
        if abs(value) < 1e12 else f"{value:.4g}"


def rate(value: float | None) -> str:
    """Things per second."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"


def percent(part: float | None, whole: float | None) -> str:
    """A share with one decimal, without the sign: for tables."""
    return "-" if part is None or not whole else number(100 * part / whole, 1)
