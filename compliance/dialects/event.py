"""The one event model that every dialect is read into."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Union


class Event:
    """One record of a log.

    line: 1-based line of the file.  time: in the dialect's own ticks, finite.
    kind: "point", "start", "stop" or None where the dialect does not say.
    value, meta: as logged; `meta` is always a dict.  benchmark: where the record
    itself names one (v0.5).
    """

    __slots__ = ("line", "time", "kind", "key", "value", "meta", "benchmark")

    def __init__(self, line: int, time: float, kind: str | None, key: str, value: Any,
                 meta: dict[str, Any], benchmark: str | None = None) -> None:
        self.line, self.time, self.kind, self.key = line, time, kind, key
        self.value, self.meta, self.benchmark = value, meta, benchmark

    def __repr__(self) -> str:
        return f"Event(line={self.line}, key={self.key!r}, value={self.value!r})"


class Problem:
    """A record that is not as its dialect has it.

    code: one of PROBLEM_CODES, which rules name.  message: one line.
    """

    __slots__ = ("line", "code", "message")

    def __init__(self, line: int, code: str, message: str) -> None:
        self.line, self.code, self.message = line, code, message

    def __repr__(self) -> str:
        return f"Problem(line={self.line}, code={self.code!r}, message={self.message!r})"


PROBLEM_CODES: dict[str, str] = {
    "json": "the record is not one JSON value (or is absurdly nested or long)",
    "number": "the JSON has NaN, Infinity or a number that no double holds",
    "duplicate": "an object of the JSON repeats a key",
    "record": "a member of the record is missing or of the wrong type",
    "time": "the record's time is no finite number",
    "line": "several records stand on one line",
}

Item = Union[Event, Problem]


@dataclass(frozen=True)
class Dialect:
    """How one kind of log is read.

    token: the bytes that begin a record.  ticks: of `Event.time`, per second.
    read(line, text): the items in `text`, which begins with the token.
    """

    name: str
    token: bytes
    ticks: int
    read: Callable[[int, str], Iterator[Item]]


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number (true and false are none)."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def is_integer(value: Any) -> bool:
    """Whether a JSON value is a whole number, written as one."""
    return type(value) is int


def show(value: Any, limit: int = 60) -> str:
    """A logged value on one printable line, shortened: for messages."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = ascii(type(value).__name__)
    return text if len(text) <= limit else text[:limit - 3] + "..."


class StrictJson:
    """JSON with its faults noted rather than smoothed over.

    `decode(text, at)` gives (value, end, faults); `faults` are (code, message)
    pairs for what a lenient reader would accept: NaN, infinities, numbers beyond
    a double, duplicate keys.  Raises ValueError where there is no JSON at all.
    """

    def __init__(self) -> None:
        self._faults: list[tuple[str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant,
            parse_float=self._float, parse_int=self._int)

    def decode(self, text: str, at: int = 0) -> tuple[Any, int, list[tuple[str, str]]]:
        self._faults = []
        try:
            value, end = self._decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ValueError(f"not valid JSON: {error.msg} at character {error.pos - at + 1} "
                             "of it") from None
        except RecursionError:
            raise ValueError("not readable JSON: nested too deeply") from None
        return value, end, self._faults

    def _constant(self, name: str) -> float:
        self._faults.append(("number", f"{name} is not JSON"))
        return float(name.replace("Infinity", "inf"))

    def _float(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            self._faults.append(("number", f"{text[:40]} is beyond any double"))
        return value

    def _int(self, text: str) -> int | float:
        if len(text) <= 300:  # past 308 digits no double holds it
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
