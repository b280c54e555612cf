"""The clock of a log: wall time at process start plus monotonic time since then.

The wall clock may be set back or forward during a run; the monotonic clock may not.
The time of each record is that sum, so that durations are exact. `run_start` and
`run_stop` also record the raw wall time, which shows whether the two clocks disagree.
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
        """Returns the raw wall clock in whole milliseconds, for comparison with `now_ms`."""
        return time.time_ns() // 1_000_000


class Stopwatch:
    """Measures seconds on the monotonic clock since its creation or last restart."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Returns the seconds since the start; does not restart the watch."""
        return time.monotonic() - self._start

    def lap(self) -> float:
        """Returns the seconds since the start and restarts from zero."""
        # The clock is read only once, so that no time is lost between two laps.
        now = time.monotonic()
        elapsed, self._start = now - self._start, now
        return elapsed
