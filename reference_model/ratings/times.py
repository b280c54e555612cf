"""The times of ratings: whole or fractional numbers of any unit, or ISO 8601 dates.

Only their order decides anything, so they become int64 numbers in that order. Whole numbers
stay as they are in the file, also those of 19 digits, which float64 cannot hold. Where a file has
fractional numbers, all its numbers are multiplied by the same power of ten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

# A finite number in decimal digits. Python and pandas would accept more, such as 1_000 or inf.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_INT64 = np.iinfo(np.int64)
# Fractions are kept to so many decimals, where the whole numbers leave room for them in int64:
# float64 holds no more of today's seconds since 1970.
_MAX_DECIMALS = 6
_DATE_SAMPLE = re.compile(r"\d{4}-\d\d(-\d\d)?")


@dataclass(frozen=True)
class Times:
    """The times of n rows.

    Attributes:
      whole: int64 [n], the whole numbers; of dates the microseconds since 1970 in UTC.
      fraction: float64 [n], what comes after the point, from 0 up and below 1; None where all
        numbers are whole.
      is_valid: bool [n], whether the text is a time; None where all are.
    """

    whole: np.ndarray
    fraction: np.ndarray | None = None
    is_valid: np.ndarray | None = None


def looks_like_date(text: str) -> bool:
    """Whether a text is an ISO 8601 date with dashes, with or without a time of day."""
    return _DATE_SAMPLE.match(text.strip()) is not None and bool(
        parse_times(np.array([text], object), are_dates=True).is_valid is None)


def parse_times(texts: np.ndarray, are_dates: bool = False) -> Times:
    """Parses the times of some rows.

    Args:
      texts: object [n], str.
      are_dates: whether they are ISO 8601 dates; else they are numbers.
    """
    if are_dates:
        return _parse_dates(texts)
    # The usual case: pandas finds whole numbers only, and they fit.
    found = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
    if found.dtype == np.int64:
        return Times(found.to_numpy())
    whole, fraction = np.zeros(len(texts), np.int64), np.zeros(len(texts))
    is_valid = np.ones(len(texts), bool)
    for row, text in enumerate(texts):
        number = parse_number(text)
        if number is None:
            is_valid[row] = False
        else:
            whole[row], fraction[row] = number
    return Times(whole, fraction if fraction.any() else None, None if is_valid.all() else is_valid)


def _parse_dates(texts: np.ndarray) -> Times:
    found = pd.to_datetime(pd.Series(texts, dtype=object), format="ISO8601", utc=True,
                           errors="coerce")
    is_valid = found.notna().to_numpy()
    whole = found.dt.as_unit("us").astype(np.int64).to_numpy()
    return Times(whole, None, None if is_valid.all() else is_valid)


def parse_number(text: str) -> tuple[int, float] | None:
    """Parses a number as (whole number at or below it, fraction); None for any other text.

    Whole numbers are exact within int64, others as float64 is.
    """
    text = text.strip()
    if _WHOLE.fullmatch(text):
        value = int(text)
        return (value, 0.0) if _INT64.min <= value <= _INT64.max else None
    if not _NUMBER.fullmatch(text) or not abs(value := float(text)) < 2.0**63:
        return None
    whole = int(np.floor(value))
    return whole, value - whole


@dataclass
class TimeColumn:
    """Collects the times of a file, part by part, and puts them on one scale."""

    _parts: list[Times] = field(default_factory=list)

    def add(self, times: Times) -> None:
        """Adds the valid times of the next rows."""
        self._parts.append(times)

    def join(self) -> np.ndarray:
        """Returns the times of all rows in their order, int64, and forgets them."""
        parts, self._parts = self._parts, []
        if all(part.fraction is None for part in parts):
            return np.concatenate([part.whole for part in parts])
        largest = max(int(np.abs(part.whole).max(initial=0)) for part in parts) + 1
        decimals = min(_MAX_DECIMALS, max(0, len(str(_INT64.max // largest)) - 1))
        scale = 10**decimals
        return np.concatenate([
            part.whole * scale if part.fraction is None
            else part.whole * scale + np.rint(part.fraction * scale).astype(np.int64)
            for part in parts])
