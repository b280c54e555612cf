"""The one event model that every dialect is read into."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from math import isfinite
from typing import Any, Callable, Iterator, Sequence, Union

import msgspec


class Event(msgspec.Struct, gc=False):
    """One record of a log.

    line: 1-based line of the file.  time: in the dialect's own ticks, finite, or
    NaN where the record has none.  kind: MLLOG's event type (POINT_IN_TIME,
    INTERVAL_START, INTERVAL_END), or None where the dialect does not say.
    value, meta: as logged; `meta` is always a dict.  benchmark: where the record
    itself names one (v0.5).
    """

    line: int
    time: Any
    kind: Any
    key: Any
    value: Any
    meta: Any
    benchmark: Any = None


class Problem:
    """A record that is not as its dialect has it.

    code: one of PROBLEM_CODES, which rules name.  message: one line.
    `key` and `time` are those of no event: a loop over items need not ask which it has.
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

    token: the bytes that begin a record.  ticks: of `Event.time`, per second.
    read(line, text): the items in `text`, which begins with the token: strict, and
    what the others must agree with.  bulk(lines, texts): the events of many records
    at once, `texts` being what follows their tokens, or None where only the other
    ways will do.  quick(line, text): one such record, or None.
    """

    name: str
    token: bytes
    ticks: int
    read: Callable[[int, str], Iterator[Item]]
    bulk: Callable[[Sequence[int], Sequence[bytes]], "list[Item] | None"] | None = None
    quick: Callable[[int, bytes], "list[Item] | None"] | None = None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number (true and false are none)."""
    return value.__class__ is float and isfinite(value) or value.__class__ is int


def is_integer(value: Any) -> bool:
    """Whether a JSON value is a whole number, written as one."""
    return type(value) is int


def show(value: Any, limit: int = 60) -> str:
    """A logged value on one printable line, shortened: for messages."""
    if isinstance(value, (str, list)):
        value = value[:limit + 1]  # so that a message about megabytes costs nothing
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = ascii(type(value).__name__)
    return text if len(text) <= limit else text[:limit - 3] + "..."
