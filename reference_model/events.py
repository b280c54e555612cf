"""The protocol through which the reference model reports facts about a run.

The model passes facts (the minimum number of ratings, the number of negatives, the optimizer's
epsilon) to a sink under fixed keys. The sink may write them to a log, print them or ignore them.
"""

from __future__ import annotations

from typing import Any, Protocol


class EventSink(Protocol):
    """Receives facts and the starts and ends of intervals.

    Keys are those of `compliance/logs/keys.py`. Values are JSON values: numbers, strings,
    booleans, None, and lists or dicts of these. A sink must be thread-safe, because
    background threads may call it.
    """

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Records a fact, or an event at the time of the call."""

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Records the start of an interval; `key` ends in `_start`."""

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Records the end of an interval; `key` is that of the start with `_stop` for `_start`."""


class NullSink:
    """Ignores all events, for tests and for use without the harness."""

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        pass
