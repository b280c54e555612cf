"""The parent's side of a trial: starts its process, forwards signals and closes its log.

A set consists of runs. An attempt is one try at a run. If an attempt does not become a
result, for example because it was interrupted, the run gets another attempt. A trial is the
process that executes one attempt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

from compliance.chain.attempt_record import AttemptRecord
from harness.base.clock import Stopwatch
from harness.config.trial_spec import TrialSpec
from harness.logs.run_log import RESULT_REASONS, RunOutcome, finalize_log, publish_result
from harness.processes.child_process import (
    ChildProcess,
    Message,
    child_environment,
    last_output_line,
)
from harness.processes.console_log import remove_noise
from harness.processes.watchdog import TEMPORARY_VARIABLE
from harness.results.attempts import closed_outcome, write_stub_log

# Time limit for a trial to exit after a signal; afterwards it is killed.
GRACE_SECONDS = 15.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Handles SIGINT, SIGTERM and SIGHUP in the parent.

    While a trial is running, a signal is forwarded to it; the trial then closes its log and
    exits. While no trial is running, a signal raises KeyboardInterrupt in the parent. In a
    `deferred` block, a signal is only recorded and raises nothing. Use an object of this class
    in a `with` statement in the main thread.

    Attributes:
      requested: Whether a signal has been received.
    """

    def __init__(self) -> None:
        self.requested = False
        self._child: subprocess.Popen | None = None
        self._since_signal = Stopwatch()
        self._is_deferred = False
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for name in _SIGNALS:
            number = getattr(signal, name)
            if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started under nohup
            self._previous_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Records and forwards signals in the `with` block, without raising an exception."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def forward_to(self, child: subprocess.Popen | None) -> None:
        """Sets the process to which signals are forwarded; None if there is no process."""
        self._child = child
        # Forward a signal that was received while the process was being started.
        if child is not None and self.requested:
            self._pass_on()

    def kill_if_overdue(self) -> None:
        """Kills a trial that did not exit within GRACE_SECONDS after a signal."""
        if self.requested and self._child and self._since_signal.seconds() > GRACE_SECONDS:
            self._child.kill()

    def _handle(self, *_: object) -> None:
        """The signal handler."""
        is_first, self.requested = not self.requested, True
        if is_first:
            self._since_signal.lap()
        if self._child is None and not self._is_deferred:
            raise KeyboardInterrupt
        self._pass_on()

    def _pass_on(self) -> None:
        """Sends SIGTERM to the trial, whichever signal the parent received."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class TrialEnd:
    """The end of a trial. Its process has ended and the log of its attempt is closed.

    Attributes:
      reason: Why the attempt ended, a value of `compliance.logs.keys.REASONS`.
      message: An explanation in one line for the user; may be empty.
      outcome: Reason, epochs, accuracy and seconds read from the closed log.
      is_result: Whether the attempt became a result: its log is among the results.
      is_usage_error: Whether the attempt failed because of a flag with an invalid value;
        `message` then contains the necessary change.
      is_attempt: Whether the trial has become an attempt. If not, only its console output was
        written.
    """

    reason: str
    message: str
    outcome: RunOutcome
    is_result: bool
    is_usage_error: bool = False
    is_attempt: bool = True


def run_trial(
    spec: TrialSpec,
    console_log: Path,
    interrupts: Interrupts,
    on_message: Callable[[Message], None],
    on_ready: Callable[[], None],
    lock: int | None = None,
) -> TrialEnd:
    """Runs one trial until it ends and closes the log of its attempt.

    A trial that fails, hangs or is killed raises no exception: the return value describes its
    end.

    Args:
      spec: The trial.
      console_log: File for the trial's standard output and error.
      interrupts: Forwards signals to the trial.
      on_message: Called with each message of the trial.
      on_ready: Called when the trial is ready and has written nothing yet; records the attempt
        in the ledger.
      lock: Descriptor of a locked file, or None. The trial inherits it and keeps it open, so
        the file stays locked until the trial has ended, even if this process ends first.

    Raises:
      OSError: the process cannot be started, or the log cannot be closed.
    """
    is_attempt = False

    def enter_attempt() -> None:
        nonlocal is_attempt
        on_ready()
        is_attempt = True

    last, returncode = run_trial_process(
        spec, console_log, interrupts, on_message, enter_attempt, lock
    )
    if is_attempt:
        return _finalize_trial(spec, returncode, console_log, last, interrupts.requested)
    reason = last.get("reason") or ("interrupted" if interrupts.requested else "killed")
    return TrialEnd(
        reason,
        last.get("message") or exit_reason(returncode, console_log),
        RunOutcome(reason, 0, None, None, None),
        is_result=False,
        is_usage_error=bool(last.get("is_usage_error")),
        is_attempt=False,
    )


def run_trial_process(
    spec: TrialSpec,
    console_log: Path,
    interrupts: Interrupts,
    on_message: Callable[[Message], None],
    on_ready: Callable[[], None] = lambda: None,
    lock: int | None = None,
) -> tuple[Message, int]:
    """Starts a trial process and passes its messages to `on_message` until it has ended.

    Args:
      spec: The trial.
      console_log: File for the trial's standard output and error.
      interrupts: Forwards signals to the trial.
      on_message: Called with each message of the trial.
      on_ready: As for `run_trial`.
      lock: As for `run_trial`.

    Returns:
      (The trial's `end` message, or the `expected_end` that replaces it, or an empty dict
      if the process sent neither; the process's return code.)

    Raises:
      OSError: the process cannot be started.
    """
    console_log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [f"--parent={os.getpid()}", *([f"--lock={lock}"] if lock is not None else [])]
    inherited = () if lock is None else (lock,)
    try:
        with _temporary_folder() as temporary, open(console_log, "wb") as output:
            # The trial has its own session: Ctrl-C in a terminal reaches only the parent,
            # which forwards it.
            trial = ChildProcess(
                "harness.trial", arguments, output, {**child_environment(), **temporary}, inherited
            )
            with trial:
                interrupts.forward_to(trial.process)
                trial.send_line(spec.to_json())
                last = _last_message(trial, interrupts, on_message, on_ready)
            remove_noise(console_log)
            return last, trial.process.returncode
    finally:
        interrupts.forward_to(None)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[dict[str, str]]:
    """Creates a temporary folder for one trial; yields the environment variables for it.

    The folder is removed at the end, with all files that TensorFlow left in it, such as
    generated source files.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="neumf-bench-", ignore_cleanup_errors=True)
    except OSError:  # no folder for temporary files; the trial may not need it
        yield {}
        return
    with folder as path:
        yield {"TMPDIR": path, TEMPORARY_VARIABLE: path}


def _last_message(
    trial: ChildProcess,
    interrupts: Interrupts,
    on_message: Callable[[Message], None],
    on_ready: Callable[[], None],
) -> Message:
    """Passes on messages until the process has ended; returns the message about its end."""
    last: Message = {}
    expected: Message = {}
    for message in trial.messages(interrupts.kill_if_overdue):
        if message["type"] == "ready":
            try:
                on_ready()
            except BaseException:  # the attempt could not be recorded, so it must not begin
                trial.kill()
                raise
            trial.send_line("start")
            continue
        if message["type"] == "end":
            last = message
        elif message["type"] == "expected_end":
            expected = message
        on_message(message)
    returncode = trial.wait(interrupts.kill_if_overdue)
    if last:
        return last
    # If a timer may end the process while TensorFlow blocks all other threads, the trial sends
    # the reason in advance. The reason applies only if the process exited with an error. It
    # does not apply if a signal ended the process (the return code is then negative) or if the
    # process exited normally.
    return expected if expected.get("reason") and returncode > 0 else {}


def _finalize_trial(
    spec: TrialSpec, returncode: int, console_log: Path, last: Message, was_interrupted: bool
) -> TrialEnd:
    """Closes the log of a trial whose process has ended, and publishes it if it is a result."""
    attempt, result = Path(spec.attempt_log), Path(spec.result_log)
    reason, message = last.get("reason"), last.get("message", "")
    # The reason written to the log if the trial could not write a reason.
    missing_reason = reason or ("interrupted" if was_interrupted else "killed")
    log_format = spec.config.log_format
    is_result = not attempt.exists() and result.exists()
    if not attempt.exists() and not is_result:
        record = AttemptRecord.from_value(spec.attempt_record)
        write_stub_log(attempt, log_format, record, missing_reason)
    if not is_result and finalize_log(attempt, log_format, missing_reason) in RESULT_REASONS:
        # The trial died after writing run_stop and before moving its log to the results.
        publish_result(attempt, result)
        is_result = True
    outcome = closed_outcome(result if is_result else attempt)
    if reason is None and not is_result:
        message = exit_reason(returncode, console_log)
    return TrialEnd(outcome.reason, message, outcome, is_result, bool(last.get("is_usage_error")))


def exit_reason(returncode: int, console_log: Path) -> str:
    """Explains, in one line, the end of a trial process that sent no message about its end.

    Args:
      returncode: The process's return code, negative after a signal.
      console_log: The file with its standard output and error.
    """
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the trial process was ended by {name}{hint}"
    line = last_output_line(console_log.read_bytes())
    return line or f"the trial process ended with exit code {returncode}"
