"""Rating times: integers or decimal fractions in any unit, or ISO 8601 dates.

Only the order of times matters, and it is preserved exactly, including equality. Integers are kept
as they are; if a file has fractions, its times are replaced by their ranks. The integer part of a
number must fit into int64; decimals after the 18th are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context, Decimal

import numpy as np

from reference_model.base.lazy_modules import pd

# A finite decimal number. Python and pandas would also accept forms such as 1_000 or inf.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_INT64 = np.iinfo(np.int64)
DECIMALS = 18
_UNIT = 10**DECIMALS
_EXACT = Context(prec=200)
_DATE_SAMPLE = re.compile(r"\d{4}-\d\d(-\d\d)?")


@dataclass(frozen=True)
class Times:
    """The times of n rows.

    Attributes:
      whole: int64 [n], the floor of the time; for dates, of the seconds since 1970 in UTC.
      fraction: int64 [n], the remainder in units of 1e-18; None if all are 0.
      is_valid: bool [n], whether the text is a time; None if all are.
    """

    whole: np.ndarray
    fraction: np.ndarray | None = None
    is_valid: np.ndarray | None = None


def looks_like_date(text: str) -> bool:
    """Whether a text is an ISO 8601 date with hyphens, with or without a time of day."""
    return _DATE_SAMPLE.match(text.strip()) is not None and bool(
        parse_times(np.array([text], object), are_dates=True).is_valid is None)


def parse_times(texts: np.ndarray, are_dates: bool = False) -> Times:
    """Parses the times of some rows.

    Args:
      texts: object [n], str.
      are_dates: whether the times are ISO 8601 dates; otherwise they are numbers.
    """
    if are_dates:
        return _parse_dates(texts)
    # Fast path: all texts are integers that fit into int64.
    found = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
    if found.dtype == np.int64:
        return Times(found.to_numpy())
    whole, fraction = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
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
    ticks_per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[found.dt.unit]
    whole, rest = np.divmod(found.astype(np.int64).to_numpy(), ticks_per_second)
    fraction = rest * (_UNIT // ticks_per_second)
    fraction[~is_valid] = 0
    return Times(whole, fraction if fraction.any() else None, None if is_valid.all() else is_valid)


def parse_number(text: str) -> tuple[int, int] | None:
    """Parses a number.

    Returns:
      (floor of the number, remainder in units of 1e-18); None for any other text, and for
      numbers outside int64.
    """
    whole, point, decimals = text.partition(".")
    # Fast path for a plain decimal fraction.
    if point and whole.isdecimal() and decimals.isdecimal() and text.isascii() \
            and len(whole) < 19 and len(decimals) <= DECIMALS:
        return int(whole), int(decimals) * 10 ** (DECIMALS - len(decimals))
    text = text.strip()
    if _WHOLE.fullmatch(text):
        value = int(text)
        return (value, 0) if _INT64.min <= value <= _INT64.max else None
    if not _NUMBER.fullmatch(text) or len(text) > 60:
        return None
    exact = Decimal(text)
    if exact.adjusted() > 19:
        return None
    # Truncate after the 18th decimal.
    units = exact.scaleb(DECIMALS, _EXACT).to_integral_value(ROUND_FLOOR, _EXACT)
    value, rest = divmod(int(units), _UNIT)
    return (value, rest) if _INT64.min <= value <= _INT64.max else None


@dataclass
class TimeColumn:
    """Collects the times of a file, block by block, and converts them to int64."""

    _parts: list[Times] = field(default_factory=list)

    def add(self, times: Times) -> None:
        """Adds the valid times of the next rows."""
        self._parts.append(times)

    def join(self) -> np.ndarray:
        """Returns int64 values with the order of the times of all rows; clears the column."""
        parts, self._parts = self._parts, []
        whole = np.concatenate([part.whole for part in parts])
        if all(part.fraction is None for part in parts):
            return whole
        fraction = np.concatenate([
            np.zeros(len(part.whole), np.int64) if part.fraction is None else part.fraction
            for part in parts])
        order = np.lexsort((fraction, whole))
        whole, fraction = whole[order], fraction[order]
        is_new = (whole[1:] != whole[:-1]) | (fraction[1:] != fraction[:-1])
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.concatenate([[0], np.cumsum(is_new)])
        return ranks
