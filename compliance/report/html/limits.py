"""Limits on the content of a page, so that it stays below 1 MB for any logs.

The page marks each place where content is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence, TypeVar

from compliance.base.text import printable_line

MAX_BYTES = 1_000_000
# Sets are shown in full while the page is smaller than this; the others are in the index only.
MAX_DETAIL_BYTES = 900_000
MAX_SETS = 500
MAX_CURVES, MAX_POINTS = 120, 2000
MAX_BARS = 24  # up to this many runs are drawn as bars with names, more as points
MAX_MARKS, MAX_STACKS = 240, 120
MAX_RULES, MAX_QUOTES, MAX_QUOTES_PER_RULE, MAX_QUOTE_CHARS = 60, 120, 4, 320
MAX_FIELDS, MAX_TEXT = 120, 400
T = TypeVar("T")
PlotPoint = tuple[float, float]


@dataclass(frozen=True)
class RowLimits:
    """The maximum number of rows of the long tables of one section.

    Attributes:
      runs: Rows of tables with a row for each run.
      epochs: Rows of tables with a row for each epoch.
    """

    runs: int = 250
    epochs: int = 1200


def row_limits(parts: int) -> RowLimits:
    """Returns the limits for one of `parts` sections that share a page."""
    return RowLimits(max(RowLimits.runs // parts, 20), max(RowLimits.epochs // parts, 60))


def clip_text(text: Any, limit: int = MAX_TEXT) -> str:
    """Shortens text to one printable line.

    Args:
      text: Any value; it is converted by `str`.
      limit: The maximum number of characters of the text itself.

    Returns:
      The line; if characters were left out, it ends with their number.
    """
    text = str(text)
    shown = printable_line(text[:limit])[:2 * limit]
    return shown if len(text) <= limit else f"{shown}… ({len(text) - limit:,} more characters)"


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """Selects at most `limit` items at even distances, including the first and the last."""
    if len(items) <= limit:
        return list(items)
    step = (len(items) - 1) / max(limit - 1, 1)
    return [items[round(i * step)] for i in range(limit)]


def downsample(points: Sequence[PlotPoint], limit: int) -> list[PlotPoint]:
    """Reduces a curve to at most `limit` points and keeps its ends, peaks and dips.

    The points between the ends are divided into segments; the lowest and the highest point of
    each segment are kept.

    Args:
      points: (x, y), sorted by x.
      limit: The maximum number of points; fewer than 4 count as 4.

    Returns:
      The kept points.
    """
    limit = max(limit, 4)
    if len(points) <= limit:
        return list(points)
    segments = (limit - 2) // 2
    inner = points[1:-1]
    size = math.ceil(len(inner) / segments)
    kept = {0, len(points) - 1}
    for start in range(0, len(inner), size):
        segment = range(start + 1, min(start + size, len(inner)) + 1)
        kept.add(min(segment, key=lambda i: points[i][1]))
        kept.add(max(segment, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(kept)]


def number_within(value: Any, low: float, high: float) -> float | None:
    """Returns the value as a float if it is a number within the bounds, else None."""
    if type(value) not in (int, float) or not low <= value <= high:
        return None
    return float(value)
