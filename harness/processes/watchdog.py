"""Ends a run from outside its main thread: on a signal, or when nothing moves.

The main thread may be inside a compiled step for minutes and cannot be asked to
stop. A watcher thread therefore writes the end of the log itself and leaves the
process with `os._exit`; there is nothing else to unwind.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
from typing import Callable

from harness.base.clock import Stopwatch

# A stage that has never finished may take this long: compiling for a large model,
# an epoch of the largest track on a small machine.
FIRST_STALL_SECONDS = 7200.0
# Later: this many times the longest so far, but no less than the floor.
STALL_FACTOR = 20.0
STALL_FLOOR_SECONDS = 600.0
STALL_VARIABLE = "NEUMF_STALL_SECONDS"

_WATCHED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Watcher:
    """Watches for signals and stalls from before the run to its end.

    `on_end(reason, message)` is called once, in the watcher's thread, with
    reason "interrupted" or "stalled"; the process exits when it returns. `parent` is
    the process whose death ends the run.
    """

    def __init__(self, on_end: Callable[[str, str], None], parent: int | None = None):
        self._on_end, self._parent = on_end, parent
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._watch = Stopwatch()
        self._longest: dict[str, float] = {}
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def start(self) -> None:
        """Takes over the signals; call it in the main thread."""
        self.take_signals()
        # The C handler writes the number at once, whatever the main thread does.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="watcher", daemon=True).start()
        die_with_parent(self._parent)

    def take_signals(self) -> None:
        """Again, where a library has taken them over; call it in the main thread."""
        for name in _WATCHED_SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, lambda *_: None)

    def stage(self, name: str | None) -> None:
        """A stage begins (None: nothing is under way); the one before has ended."""
        with self._lock:
            seconds = self._watch.lap()
            if self._stage is not None:
                self._longest[self._stage] = max(seconds, self._longest.get(self._stage, 0.0))
            self._stage = name

    def limit(self, stage: str) -> float:
        """How long `stage` may take before the run ends as stalled, in seconds."""
        fixed = os.environ.get(STALL_VARIABLE)
        if fixed:
            return float(fixed)
        if stage not in self._longest:
            return FIRST_STALL_SECONDS
        return max(STALL_FLOOR_SECONDS, STALL_FACTOR * self._longest[stage])

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._reader], [], [], 0.5)
            if ready:
                number = os.read(self._reader, 1)[0]
                if number in [getattr(signal, name) for name in _WATCHED_SIGNALS]:
                    self.leave("interrupted", f"stopped by {signal.Signals(number).name}")
                continue
            with self._lock:
                stage, seconds = self._stage, self._watch.seconds()
                stalled = stage is not None and seconds > self.limit(stage)
            if stalled:
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                self.leave("stalled", f"{stage} did not end within {self.limit(stage):.0f} s")

    def leave(self, reason: str, message: str) -> None:
        """Ends the run, and with it the process, from any thread."""
        try:
            self._on_end(reason, message)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def die_with_parent(parent: int | None) -> None:
    """Asks Linux for a SIGTERM when the parent process dies, or has died already."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # elsewhere the run goes on to its end, and --resume finds its log
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
