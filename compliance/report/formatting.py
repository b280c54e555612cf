"""Formatting of single values: numbers, seconds, rates, shares, yes and no, untrusted text.

All tables and sentences of the reports use these functions. An unknown value (None) becomes
a dash.
"""

from __future__ import annotations

import math
from typing import Any

_DURATION_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
# Prefixes, from values that three digits round up to one unit.
_RATE_PREFIXES = ((1e9, " G"), (1e6, " M"), (1e3, " k"))
_ROUNDED_UP = 0.9995


def format_yes_no(value: bool | None) -> str:
    """Returns "yes" or "no", or a dash for None."""
    return "-" if value is None else "yes" if value else "no"


def format_number(value: float | None, digits: int) -> str:
    """Formats a number with a fixed number of decimals.

    Args:
      value: The number, or None.
      digits: The number of decimals.

    Returns:
      The number, never as "-0"; a dash if it is None or not finite.
    """
    if value is None or not math.isfinite(value):
        return "-"
    # Rounding can produce a negative zero; adding 0.0 turns it into zero.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def format_hit_rate(value: Any) -> str:
    """Formats a hit rate with four decimals, rounded down.

    Rounding up could show the target for a run that did not reach it.
    """
    if value is None:
        return "-"
    # The small term prevents rounding errors from turning 0.2 into 0.1999.
    return f"{math.floor(value * 10_000 + 1e-9) / 10_000:.4f}" if abs(value) < 1e6 \
        else f"{value:.3g}"


def format_seconds(value: float | None) -> str:
    """Formats seconds with three decimals, or fewer for large values."""
    if value is None:
        return "-"
    digits = 3 if abs(value) < 100 else 2 if abs(value) < 10_000 else 0
    return "-" if format_number(value, digits) == "-" else f"{value:,.{digits}f}" \
        if abs(value) < 1e12 else f"{value:.4g}"


def format_duration(value: float | None) -> str:
    """Formats seconds with four significant digits and a unit from s to ns."""
    if value is None:
        return "-"
    size, unit = next(((s, u) for s, u in _DURATION_UNITS if value >= s), _DURATION_UNITS[-1])
    return f"{value / size:.4g} {unit}"


def format_rate(value: float | None) -> str:
    """Formats a rate (per second) as a whole number."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"


def format_rate_with_prefix(value: float) -> str:
    """Formats a rate with three significant digits and a prefix: "5.11 M"."""
    for size, prefix in _RATE_PREFIXES:
        if value >= _ROUNDED_UP * size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def format_percent(part: float | None, whole: float | None) -> str:
    """Formats a share of the whole in percent with one decimal, without the sign."""
    return "-" if part is None or not whole else format_number(100 * part / whole, 1)


def format_log_count(count: int) -> str:
    """Returns "1 log" or "N logs"."""
    return "1 log" if count == 1 else f"{count} logs"
