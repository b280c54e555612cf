"""What a page shows at most, so that it stays below 1 MB whatever the logs hold.

Whatever is left out is said beside the place where it is missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence, TypeVar

from compliance.report.text import plain

MAX_BYTES = 1_000_000
# Sets are written out while the page is below this; the rest stands in the index alone.
FULL_BYTES = 900_000
MAX_SETS = 500
MAX_CURVES, MAX_POINTS = 120, 2000
BARS = 24  # so many runs have a bar and a name each; more are points
MAX_MARKS, MAX_STACKS = 240, 120
MAX_RULES, MAX_QUOTES, QUOTES_A_RULE, QUOTE = 60, 120, 4, 320
MAX_FIELDS, MAX_TEXT = 120, 400
T = TypeVar("T")
Point = tuple[float, float]


@dataclass(frozen=True)
class Rows:
    """Rows of the long tables; fewer in each set where there are several."""

    runs: int = 250
    epochs: int = 1200


def rows_for(parts: int) -> Rows:
    """The limits for one of so many parts of a page."""
    return Rows(max(Rows.runs // parts, 20), max(Rows.epochs // parts, 60))


def short(text: Any, limit: int = MAX_TEXT) -> str:
    """One printable line of at most `limit` characters; what is left out is counted."""
    text = str(text)
    shown = plain(text[:limit])[:2 * limit]
    return shown if len(text) <= limit else f"{shown}… ({len(text) - limit:,} more characters)"


def spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    step = (len(items) - 1) / max(limit - 1, 1)
    return [items[round(i * step)] for i in range(limit)]


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points that keep a curve's ends, peaks and dips.

    The points are cut into stretches, of each of which the lowest and the highest stay.
    """
    limit = max(limit, 4)
    if len(points) <= limit:
        return list(points)
    stretches = (limit - 2) // 2
    inner = points[1:-1]
    size = math.ceil(len(inner) / stretches)
    kept = {0, len(points) - 1}
    for start in range(0, len(inner), size):
        part = range(start + 1, min(start + size, len(inner)) + 1)
        kept.add(min(part, key=lambda i: points[i][1]))
        kept.add(max(part, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(kept)]


def real(value: Any, low: float, high: float) -> float | None:
    """The value as a float if it is a number within the bounds: what can be drawn."""
    if type(value) not in (int, float) or not low <= value <= high:
        return None
    return float(value)
