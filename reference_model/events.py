"""The protocol through which the reference model reports facts about a run.

The model names facts (the minimum number of ratings, the number of negatives, the
optimizer's epsilon) and passes them to a sink. The creator of the sink decides whether a
fact becomes a log record, a line on a terminal, or nothing.
"""

from __future__ import annotations

from typing import Any, Protocol


class EventSink(Protocol):
    """Receives facts and the beginnings and ends of intervals.

    Keys are those of `compliance/logs/keys.py`. Values are JSON values: numbers, strings,
    booleans, None, and lists or dicts of them. A sink must be thread-safe, because it may
    be called from a background thread.
    """

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Records a fact, or an event that happens at this moment."""

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Records the start of an interval; `key` ends in `_start`."""

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Records the end of an interval; `key` is its start's, with `_stop` as the ending."""


class NullSink:
    """Ignores all events: for tests, and for using the model without the harness."""

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass
