"""The one event model into which the logs of every dialect are read."""

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
      time: In ticks of the dialect (`Dialect.ticks_per_second`), finite; NaN where the
        record has no usable time.
      event_type: MLLOG's POINT_IN_TIME, INTERVAL_START or INTERVAL_END; None where the
        dialect does not say.
      key: The record's key (MLLOG) or tag (v0.5).
      value: As logged.
      metadata: As logged; always a dict.
      benchmark: The benchmark that the record itself names (v0.5), else None.
    """

    line: int
    time: Any
    event_type: Any
    key: Any
    value: Any
    metadata: Any
    benchmark: Any = None


class Problem:
    """A fault of a record that its dialect does not allow.

    It has a `key` and a `time` that no event has, so that a loop over items need not ask
    for their class.

    Attributes:
      line: Line of the file, from 1.
      code: One of PROBLEM_CODES; the rules of check `reading` name them.
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

    `read` is the strict reader.  The two others are optional short cuts: they return
    exactly what `read` would, or None where they cannot decide.

    Attributes:
      name: mllog, v0.5 or v0.6.
      token: The bytes with which a record begins.
      ticks_per_second: The unit of `Event.time`.
      read: (line, text) to the items in `text`, which begins with the token.
      read_block: (lines, texts) to the events of many records at once, where `texts` is
        what follows their tokens, or None.
      read_record: (line, text) to the items of one such record, or None.
    """

    name: str
    token: bytes
    ticks_per_second: int
    read: Callable[[int, str], Iterator[Item]]
    read_block: Callable[[Sequence[int], Sequence[bytes]], "list[Item] | None"] | None = None
    read_record: Callable[[int, bytes], "list[Item] | None"] | None = None


def is_number(value: Any) -> bool:
    """Returns whether a JSON value is a finite number (true and false are none)."""
    return value.__class__ is float and isfinite(value) or value.__class__ is int


def is_integer(value: Any) -> bool:
    """Returns whether a JSON value is a whole number, written as one."""
    return type(value) is int
