"""The parent's side of a trial process: start it, listen, pass signals on, bury it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

from compliance.chain.attempt_record import Link
from harness.base.clock import Stopwatch
from harness.base.machine import PROJECT_ROOT
from harness.config.trial_spec import TrialSpec
from harness.logs.run_log import PLACED_REASONS, Outcome, ensure_end, place
from harness.results.attempts import told, write_stub

# How long a trial may take to end itself after a signal before it is killed.
GRACE_SECONDS = 15.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

Message = dict[str, Any]


class Interrupts:
    """Takes the parent's signals: passes them to the trial, or stops the parent.

    While a trial runs, a signal asks it to end its log; else it raises
    KeyboardInterrupt, but not before a `held` block has ended by itself. Use it as a
    context, in the main thread.
    """

    def __init__(self) -> None:
        self.requested = False
        self._child: subprocess.Popen | None = None
        self._since = Stopwatch()
        self._held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for name in _SIGNALS:
            number = getattr(signal, name)
            if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started under nohup
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """In this block a signal is noted and passed on, and interrupts nothing."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def watch(self, child: subprocess.Popen | None) -> None:
        """From now on signals go to `child` (None: to nobody)."""
        self._child = child
        if child is not None and self.requested:
            self._pass_on()

    def check(self) -> None:
        """Kills a trial that did not end itself in time after a signal."""
        if self.requested and self._child and self._since.seconds() > GRACE_SECONDS:
            self._child.kill()

    def _handle(self, *_: object) -> None:
        first, self.requested = not self.requested, True
        if first:
            self._since.lap()
        if self._child is None and not self._held:
            raise KeyboardInterrupt
        self._pass_on()

    def _pass_on(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended, and what its log, which is closed, says of it.

    `usage`: a flag asked for what is not there; `message` is for the user.
    """

    reason: str
    message: str
    outcome: Outcome
    placed: bool
    usage: bool = False


def run_trial(
    spec: TrialSpec,
    console_log: Path,
    interrupts: Interrupts,
    on_message: Callable[[Message], None],
    lock: int | None = None,
) -> TrialEnd:
    """Runs one trial to its end, whatever end that is; never raises for it.

    `lock`: a descriptor that the trial keeps open, so that what it locks stays locked
    while the trial lives, also when this process is gone. Raises OSError where a
    process cannot be started or a log cannot be closed.
    """
    last, returncode = attend(spec, console_log, interrupts, on_message, lock)
    return _bury(spec, returncode, console_log, last, interrupts.requested)


def attend(
    spec: TrialSpec,
    console_log: Path,
    interrupts: Interrupts,
    on_message: Callable[[Message], None],
    lock: int | None = None,
) -> tuple[Message, int]:
    """Starts a trial process and listens to it until it has gone: (its last word, which is
    empty where it had none, its return code)."""
    reader, writer = os.pipe()
    console_log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(console_log, "wb") as output:
            child = subprocess.Popen(
                [
                    sys.executable, "-m", "harness.trial", f"--pipe={writer}",
                    f"--parent={os.getpid()}", *([f"--lock={lock}"] if lock is not None else []),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[fd for fd in (writer, lock) if fd is not None],
                env=child_environment(),
                # Ctrl-C in a terminal reaches the parent only, which passes it on.
                start_new_session=True,
            )
        interrupts.watch(child)
        os.close(writer)
        writer = -1
        _hand_over(child, spec.to_json())
        return _listen(reader, child, interrupts, on_message), child.returncode
    finally:
        interrupts.watch(None)
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def child_environment() -> dict[str, str]:
    """The trial's environment: it finds this project, and prints unbuffered."""
    before = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), *([before] if before else [])]),
        "PYTHONUNBUFFERED": "1",
        # The folder that one stands in must not shadow the project's packages.
        "PYTHONSAFEPATH": "1",
        "KERAS_BACKEND": "tensorflow",
    }


def _hand_over(child: subprocess.Popen, text: str) -> None:
    try:
        child.stdin.write(text.encode())
        child.stdin.close()
    except OSError:
        pass  # it died already; its console log says why


def _listen(
    reader: int,
    child: subprocess.Popen,
    interrupts: Interrupts,
    on_message: Callable[[Message], None],
) -> Message:
    """Hands on the trial's messages until it has gone; returns its last word."""
    last: Message = {}
    will: Message = {}
    rest = b""
    while True:
        ready, _, _ = select.select([reader], [], [], 0.5)
        interrupts.check()
        if not ready:
            if child.poll() is not None:
                break
            continue
        data = os.read(reader, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["type"] == "end":
                last = message
            elif message["type"] == "will":
                will = message
            on_message(message)
    while True:
        try:
            child.wait(timeout=0.5)
            # Of a process that ended itself without another word.
            return last or (will if will.get("reason") and child.returncode > 0 else {})
        except subprocess.TimeoutExpired:
            interrupts.check()


def _bury(
    spec: TrialSpec, returncode: int, console_log: Path, last: Message, interrupted: bool
) -> TrialEnd:
    """What became of a trial whose process has ended; its log is closed and in place."""
    attempt, result = Path(spec.attempt), Path(spec.result)
    reason, message = last.get("reason"), last.get("message", "")
    died = "interrupted" if interrupted else "killed"
    placed = not attempt.exists() and result.exists()
    if not attempt.exists() and not placed:
        write_stub(attempt, spec.config.log_format, Link.of(spec.link), reason or died)
    if not placed and ensure_end(attempt, spec.config.log_format, reason or died) in PLACED_REASONS:
        place(attempt, result)  # it died on the last steps
        placed = True
    outcome = told(result if placed else attempt)
    if reason is None and not placed:
        message = how_it_died(returncode, console_log)
    return TrialEnd(outcome.reason, message, outcome, placed, bool(last.get("usage")))


def how_it_died(returncode: int, console_log: Path) -> str:
    """What a process that left no word died of, in one line."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the trial process was ended by {name}{hint}"
    lines = console_log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else f"the trial process ended with {returncode}"
