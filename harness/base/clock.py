"""The clock of a log: wall time at process start plus monotonic time since then.

The wall clock may be set back or forward during a run; the monotonic clock may not.
The time of each record is the sum of the two, so that durations are exact.
`run_start` and `run_stop` carry the raw wall time too, so that a reader sees
whether the two clocks disagree.
"""

from __future__ import annotations

import time


class RunClock:
    """Time stamps that never run backwards, in nanoseconds since the epoch of 1970."""

    def __init__(self) -> None:
        self._wall_start_ns = time.time_ns()
        self._monotonic_start_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """Returns the wall time at creation plus the monotonic time elapsed since, in ns."""
        return self._wall_start_ns + time.monotonic_ns() - self._monotonic_start_ns

    def now_ms(self) -> int:
        """Returns `now_ns` in whole milliseconds, the unit of `time_ms` in MLLOG records."""
        return self.now_ns() // 1_000_000

    @staticmethod
    def wall_ms() -> int:
        """Returns the raw wall clock in whole milliseconds, to compare `now_ms` with."""
        return time.time_ns() // 1_000_000


class Stopwatch:
    """Measures seconds on the monotonic clock since it was made or last restarted."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Returns the seconds since the start; the watch runs on."""
        return time.monotonic() - self._start

    def lap(self) -> float:
        """Returns the seconds since the start and restarts from zero."""
        # One reading serves both, so that no time falls between two laps.
        now = time.monotonic()
        elapsed, self._start = now - self._start, now
        return elapsed
