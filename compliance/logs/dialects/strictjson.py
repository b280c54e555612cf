"""JSON with its faults noted rather than smoothed over: the slow, strict reader."""

from __future__ import annotations

import json
import math
from typing import Any

from compliance.logs.dialects.event import show

# No honest record comes near either.
MAX_DEPTH = 64
MAX_DIGITS = 300  # past 308 digits no double holds a whole number
# How much text the decoder is shown at first. Its errors cost time in proportion to the
# text before them, so that a line of many broken records must not be shown whole each time.
_WINDOW = 4096
_TOO_DEEP = "not readable JSON: nested too deeply"


class StrictJson:
    """`decode(text, at)` gives (value, end, faults).

    `faults` are (code, message) pairs for what a lenient reader would accept: NaN,
    infinities, numbers beyond a double, duplicate keys.  Raises ValueError where
    there is no JSON at all, or where it is nested deeper than MAX_DEPTH.
    """

    def __init__(self) -> None:
        self._faults: list[tuple[str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant,
            parse_float=self._float, parse_int=self._int)

    def decode(self, text: str, at: int = 0) -> tuple[Any, int, list[tuple[str, str]]]:
        """The JSON value that begins at `at`."""
        window = _WINDOW
        while True:
            whole = at + window >= len(text)
            try:
                # One character short of the window's end a number could go on behind it.
                value, end = self._raw(text[at:at + window])
                if whole or end < window:
                    return value, at + end, self._faults
            except json.JSONDecodeError as error:
                if whole or not (error.pos > window - 64 or error.msg.startswith("Unterminated")):
                    what = error.msg
                    if what.startswith("Unterminated"):
                        what = "cut off in the text that begins"
                    raise ValueError(f"not valid JSON: {what} at character {error.pos + 1} "
                                     "of it") from None
            window *= 8

    def _raw(self, text: str) -> tuple[Any, int]:
        self._faults = []
        try:
            value, end = self._decoder.raw_decode(text)
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
        if text.count("[", 0, end) + text.count("{", 0, end) > MAX_DEPTH and _deep(value):
            raise ValueError(_TOO_DEEP)
        return value, end

    def _constant(self, name: str) -> float:
        self._faults.append(("number", f"the record holds {name}, which is not JSON"))
        return float(name.replace("Infinity", "inf"))

    def _float(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            self._faults.append(("number", f"{text[:40]} is beyond any double"))
        return value

    def _int(self, text: str) -> int | float:
        if len(text) <= MAX_DIGITS:
            return int(text)
        self._faults.append(("number", f"a whole number of {len(text)} digits"))
        return math.inf

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._faults.append(("duplicate", f"key {show(key)} stands twice"))
                    break
                seen.add(key)
        return result


def _deep(value: Any) -> bool:
    """Whether lists and objects stand in each other more than MAX_DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for outer in level if isinstance(outer, (list, dict))
                 for child in (outer.values() if isinstance(outer, dict) else outer)
                 if isinstance(child, (list, dict))]
        if not level:
            return False
    return True
