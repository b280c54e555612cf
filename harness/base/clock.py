"""The clock of a log: wall time at process start plus monotonic time since.

The wall clock may be set back or forward while a run is going on; the monotonic
clock may not. Records carry the sum of the two, so that durations are exact, and
`run_start` and `run_stop` carry the raw wall time too, so that a reader sees when
the two disagree.
"""

from __future__ import annotations

import time


class RunClock:
    """Time stamps that never run backwards, in nanoseconds since the epoch."""

    def __init__(self) -> None:
        self._wall_start_ns = time.time_ns()
        self._monotonic_start_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """Wall time at creation plus monotonic time elapsed since, in ns."""
        return self._wall_start_ns + time.monotonic_ns() - self._monotonic_start_ns

    def now_ms(self) -> int:
        """The same in whole milliseconds, the unit of MLLOG records."""
        return self.now_ns() // 1_000_000

    @staticmethod
    def wall_ms() -> int:
        """The raw wall clock in whole milliseconds, for comparison."""
        return time.time_ns() // 1_000_000


class Stopwatch:
    """Seconds on the monotonic clock since it was made or last restarted."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def lap(self) -> float:
        """The seconds so far; the watch starts again from zero."""
        now = time.monotonic()
        elapsed, self._start = now - self._start, now
        return elapsed
