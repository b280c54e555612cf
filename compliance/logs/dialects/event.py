"""The event model shared by all dialects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import isfinite
from typing import Any, Callable, Iterator, Sequence, Union

import msgspec


class Event(msgspec.Struct, gc=False):
    """One record of a log.

    Attributes:
      line: Line of the file, from 1.
      time: In ticks of the dialect (`Dialect.ticks_per_second`), finite; NaN if the
        record has no usable time.
      event_type: MLLOG's POINT_IN_TIME, INTERVAL_START or INTERVAL_END; None if the
        dialect does not record it.
      key: The record's key (MLLOG) or tag (v0.5).
      value: As logged.
      metadata: As logged; always a dict.
      benchmark: The benchmark named in the record (v0.5), else None.
    """

    line: int
    time: Any
    event_type: Any
    key: Any
    value: Any
    metadata: Any
    benchmark: Any = None


class Problem:
    """A fault in a record: content that its dialect does not allow.

    Its `key` and `time` are values that no event has, so a loop over items need not check
    their class.

    Attributes:
      line: Line of the file, from 1.
      code: One of PROBLEM_CODES, which rules with the check `reading` refer to.
      message: One line for the user.
    """

    __slots__ = ("line", "code", "message")
    key = None
    time = math.nan

    def __init__(self, line: int, code: str, message: str) -> None:
        self.line, self.code, self.message = line, code, message

    def __repr__(self) -> str:
        return f"Problem(line={self.line}, code={self.code!r}, message={self.message!r})"


PROBLEM_CODES: dict[str, str] = {
    "json": "the record is not one JSON value (or is nested too deeply or too long)",
    "number": "the JSON contains NaN, Infinity or a number outside the range of a double",
    "duplicate": "an object in the JSON repeats a key",
    "record": "a member of the record is missing or of the wrong type",
    "time": "the record's time is not a finite number",
    "line": "there are several records on one line",
}

Item = Union[Event, Problem]


@dataclass(frozen=True)
class Dialect:
    """The readers of one kind of log.

    `read` is the strict reader. The other two are optional fast paths: they return
    exactly the result of `read`, or None if they cannot decode the input.

    Attributes:
      name: mllog, v0.5 or v0.6.
      token: The bytes at the beginning of a record.
      ticks_per_second: The unit of `Event.time`.
      read: (line, text) -> the items in `text`, which begins with the token.
      read_block: (lines, texts) -> the events of many records, or None; `texts` contains the
        text after each token.
      read_record: (line, text) -> the items of one such record, or None.
    """

    name: str
    token: bytes
    ticks_per_second: int
    read: Callable[[int, str], Iterator[Item]]
    read_block: Callable[[Sequence[int], Sequence[bytes]], "list[Item] | None"] | None = None
    read_record: Callable[[int, bytes], "list[Item] | None"] | None = None


def is_number(value: Any) -> bool:
    """Returns whether a JSON value is a finite number (true and false are not)."""
    return value.__class__ is float and isfinite(value) or value.__class__ is int


def is_integer(value: Any) -> bool:
    """Returns whether a JSON value is a whole number written without a decimal point."""
    return type(value) is int
