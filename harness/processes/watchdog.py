"""Ends a run from outside its main thread, after a signal or if the run makes no progress.

The main thread may spend minutes in a compiled step, which cannot be interrupted. Therefore the
watchdog's thread writes the end of the log and ends the process with `os._exit`. No other
cleanup is necessary.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import shutil
import signal
import sys
import threading
from typing import Callable

from harness.base.clock import Stopwatch

# Time limit of a stage before a stage of the same name has ended in this run. It is long
# enough to compile a large model, and for an epoch of the largest track on a small machine.
FIRST_STALL_SECONDS = 7200.0
# Afterwards the limit is STALL_FACTOR times the longest duration of that stage so far, but at
# least STALL_FLOOR_SECONDS.
STALL_FACTOR = 20.0
STALL_FLOOR_SECONDS = 600.0
# The environment variable with the path of the trial's temporary folder, which the trial
# removes at its end.
TEMPORARY_VARIABLE = "NEUMF_TRIAL_TEMPORARY"
# The environment variable that replaces all these limits, in seconds.
STALL_VARIABLE = "NEUMF_STALL_SECONDS"

_WATCHED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Watchdog:
    """Monitors a process for signals and stalls, from before the run to its end.

    Args:
      on_end: Called once as on_end(reason, message), in the watchdog's thread, with the
        reason "interrupted" or "stalled". The process exits when it returns.
      parent: Id of the parent process, whose death ends the run; None if the id is not known,
        see `die_with_parent`.
    """

    def __init__(self, on_end: Callable[[str, str], None], parent: int | None = None):
        self._on_end, self._parent = on_end, parent
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._stage_watch = Stopwatch()
        self._longest_seconds: dict[str, float] = {}
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def start(self) -> None:
        """Starts the watchdog; call it in the main thread."""
        self.install_signal_handlers()
        # Python calls signal handlers only in the main thread and between two bytecodes, which
        # may be minutes later. With a wake-up descriptor, Python's C handler writes the
        # signal number to the pipe at once, and the watchdog's thread reads it.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        die_with_parent(self._parent)

    def install_signal_handlers(self) -> None:
        """Installs Python handlers for SIGINT, SIGTERM and SIGHUP, so that they end the run.

        Call it in the main thread, and again after a library has replaced the handlers. The
        handlers do nothing themselves: the watchdog's thread, which `start` connects to the
        signals, ends the run.
        """
        for name in _WATCHED_SIGNALS:
            number = getattr(signal, name)
            # A signal that was ignored when the process started stays ignored, such as SIGHUP
            # under nohup. SIGINT is the exception and always ends the run, because a shell
            # starts background commands with SIGINT ignored and a user may still send it.
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, lambda *_: None)

    def begin_stage(self, name: str | None) -> None:
        """Ends the current stage and begins the stage `name`; None begins no stage."""
        with self._lock:
            seconds = self._stage_watch.lap()
            if self._stage is not None:
                longest = self._longest_seconds.get(self._stage, 0.0)
                self._longest_seconds[self._stage] = max(seconds, longest)
            self._stage = name

    def stall_seconds(self, stage: str) -> float:
        """Returns the time limit of `stage`, in seconds, after which the run is stalled."""
        fixed = os.environ.get(STALL_VARIABLE)
        if fixed:
            return float(fixed)
        if stage not in self._longest_seconds:
            return FIRST_STALL_SECONDS
        return max(STALL_FLOOR_SECONDS, STALL_FACTOR * self._longest_seconds[stage])

    def _run(self) -> None:
        """The body of the watchdog's thread: waits for a signal or a stall, then ends the run."""
        while True:
            ready, _, _ = select.select([self._reader], [], [], 0.5)
            if ready:
                number = os.read(self._reader, 1)[0]
                if number in [getattr(signal, name) for name in _WATCHED_SIGNALS]:
                    self.end_process("interrupted", f"stopped by {signal.Signals(number).name}")
                continue
            with self._lock:
                stage, seconds = self._stage, self._stage_watch.seconds()
                is_stalled = stage is not None and seconds > self.stall_seconds(stage)
            if is_stalled:
                # Write the stack of each thread to the trial's console output, to show at which
                # call the thread hangs.
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                limit = self.stall_seconds(stage)
                self.end_process("stalled", f"{stage} did not end within {limit:.0f} s")

    def end_process(self, reason: str, message: str) -> None:
        """Ends the run and the process; any thread may call it. Does not return."""
        try:
            self._on_end(reason, message)
        finally:
            remove_temporary_folder()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def remove_temporary_folder() -> None:
    """Removes the temporary folder of this trial, because its parent may have ended."""
    folder = os.environ.get(TEMPORARY_VARIABLE)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def die_with_parent(parent: int | None) -> None:
    """Makes Linux send SIGTERM to this process when its parent process dies.

    If the parent has already died, this process sends itself SIGTERM.

    Args:
      parent: Id of the parent process; None skips the check whether it has already died.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # no prctl on other systems: the run continues, and --resume finds its log
    # The parent may have died before the call above.
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
