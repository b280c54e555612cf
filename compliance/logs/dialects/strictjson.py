"""The slow, strict JSON reader: it reports the faults that a lenient reader accepts."""

from __future__ import annotations

import json
import math
from typing import Any

from compliance.base.text import format_value

# Valid records stay far below these limits.
MAX_DEPTH = 64
# The product of three such whole numbers still fits into a double.
MAX_DIGITS = 100
# Length of the first window. An error costs time in proportion to the text before it, so a
# line with many broken records must not be passed whole for each of them.
_WINDOW = 4096
_TOO_DEEP = "not readable JSON: nested too deeply"


class StrictJson:
    """A decoder that reports NaN, infinities, numbers beyond a double and duplicate keys."""

    def __init__(self) -> None:
        self._faults: list[tuple[str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant,
            parse_float=self._float, parse_int=self._int)

    def decode(self, text: str, at: int = 0) -> tuple[Any, int, list[tuple[str, str]]]:
        """Decodes the JSON value at a position of a text.

        Args:
          text: Any text.
          at: The index where the value begins.

        Returns:
          (value, index of the end, faults). Faults are (code, message) pairs with codes from
          PROBLEM_CODES.

        Raises:
          ValueError: There is no JSON value, or it is nested deeper than MAX_DEPTH.
        """
        window = _WINDOW
        while True:
            whole = at + window >= len(text)
            try:
                value, end = self._decode_window(text[at:at + window])
                # A value that ends at the end of the window may be the first part of a number.
                if whole or end < window:
                    return value, at + end, self._faults
            except json.JSONDecodeError as error:
                # An error near the window's end, or an open string, may be caused by the cut.
                if whole or not (error.pos > window - 64 or error.msg.startswith("Unterminated")):
                    what = error.msg
                    if what.startswith("Unterminated"):
                        what = "cut off in the text that begins"
                    raise ValueError(f"not valid JSON: {what} at character {error.pos + 1} "
                                     "of it") from None
            window *= 8

    def _decode_window(self, text: str) -> tuple[Any, int]:
        """Returns (value, end) of the value at the beginning of the text; resets the faults."""
        self._faults = []
        try:
            value, end = self._decoder.raw_decode(text)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        if text.count("[", 0, end) + text.count("{", 0, end) > MAX_DEPTH and _is_too_deep(value):
            raise ValueError(_TOO_DEEP)
        return value, end

    def _constant(self, name: str) -> float:
        self._faults.append(("number", f"the record holds {name}, which is not JSON"))
        return float(name.replace("Infinity", "inf"))

    def _float(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            self._faults.append(("number", f"{text[:40]} is outside the range of a double"))
        return value

    def _int(self, text: str) -> int | float:
        if len(text) <= MAX_DIGITS:
            return int(text)
        self._faults.append(("number", f"a whole number of {len(text)} digits is too long"))
        return math.inf

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._faults.append(("duplicate", f"key {format_value(key)} appears twice"))
                    break
                seen.add(key)
        return result


def _is_too_deep(value: Any) -> bool:
    """Whether lists and objects are nested more than MAX_DEPTH levels deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for outer in level if isinstance(outer, (list, dict))
                 for child in (outer.values() if isinstance(outer, dict) else outer)
                 if isinstance(child, (list, dict))]
        if not level:
            return False
    return True
