"""The protocol through which the reference model reports what it did.

The model names facts (the minimum ratings, the number of negatives, the
optimizer's epsilon) and hands them to a sink; what becomes of them - a log
record, a line on a terminal, nothing - is the business of whoever made the sink.
"""

from __future__ import annotations

from typing import Any, Protocol


class EventSink(Protocol):
    """Receives facts and the beginnings and ends of intervals.

    Keys are those of `compliance/logs/keys.py`. Values are JSON values: numbers,
    strings, booleans, None, and lists or dicts of them. A sink may be called
    from a background thread and must be safe for that.
    """

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        """A fact, or something that happened at this moment."""

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        """An interval begins; `key` ends in `_start`."""

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        """The interval ends; `key` is the one of its start with `_stop`."""


class NullSink:
    """Drops everything: for tests and for use of the model by hand."""

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass
