"""Starts a child process, sends it a request and reads the messages on its pipe.

A child runs `python -m MODULE --pipe=DESCRIPTOR`. It reads its request, one JSON object, from
standard input and sends messages on the pipe (`harness.processes.parent_pipe`). Its
standard output and error are written to a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, Any, Callable, Iterator, Mapping, Sequence

from harness.base.machine import PROJECT_ROOT

Message = dict[str, Any]

# Interval at which a waiting parent calls its `on_wait` function.
_POLL_SECONDS = 0.5
_OUTPUT_LINE_LENGTH = 300


def _do_nothing() -> None:
    """The default of `on_wait`."""


class ChildProcess:
    """A child process and the pipe on which it sends messages.

    Use it in a `with` statement. At its end, the statement closes the pipe and the child's
    standard input; it does not end the process.

    Args:
      module: Name of the module to run.
      arguments: Further arguments of the command line.
      output: An open file for standard output and error.
      environment: All environment variables.
      inherited: Further file descriptors that the child inherits.
      in_new_session: Whether to start the child in a new session and process group, so that
        Ctrl-C in a terminal reaches only the parent.

    Attributes:
      process: The process.

    Raises:
      OSError: the process cannot be started.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        output: IO[bytes],
        environment: Mapping[str, str],
        inherited: Sequence[int] = (),
        in_new_session: bool = True,
    ):
        self._reader, writer = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, f"--pipe={writer}", *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writer, *inherited),
                env=environment,
                start_new_session=in_new_session,
            )
        except BaseException:
            os.close(self._reader)
            raise
        finally:
            # The child has its own copy of the write end. Close the parent's copy, so that the
            # parent reads the end of the pipe as soon as the child closes its copy.
            os.close(writer)

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reader)
        self._close_input()

    def send_request(self, text: str) -> None:
        """Writes the request to the child's standard input and closes it."""
        self.send_line(text)
        self._close_input()

    def send_line(self, text: str) -> None:
        """Writes one line to the child's standard input, which stays open."""
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # the child has already died; its output contains the reason

    def _close_input(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def messages(self, on_wait: Callable[[], None] = _do_nothing) -> Iterator[Message]:
        """Yields the child's messages until the child closes its pipe or has ended.

        Args:
          on_wait: Called before each read of the pipe, at least every 0.5 s.
        """
        partial_line = b""
        while True:
            ready, _, _ = select.select([self._reader], [], [], _POLL_SECONDS)
            on_wait()
            if not ready:
                # A process started by the child may keep the pipe open after the child has
                # ended. Do not wait for that process.
                if self.process.poll() is not None:
                    return
                continue
            data = os.read(self._reader, 65536)
            if not data:
                return
            *lines, partial_line = (partial_line + data).split(b"\n")
            for line in lines:
                yield json.loads(line)

    def wait(self, on_wait: Callable[[], None] = _do_nothing) -> int:
        """Waits until the child has ended; returns its return code.

        Args:
          on_wait: Called every 0.5 s during the wait.
        """
        while True:
            try:
                return self.process.wait(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                on_wait()

    def kill(self) -> None:
        """Kills the child if it is still running, and waits until it has ended."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class ChildResult:
    """The last message and the return code of a child process that has ended.

    Attributes:
      message: The last message; empty if there was none.
      returncode: The process's return code, negative after a signal.
      output_line: The last line of the output, see `last_output_line`.
    """

    message: Message
    returncode: int
    output_line: str


def run_child(
    module: str,
    request: Mapping[str, Any],
    environment: Mapping[str, str],
    arguments: Sequence[str] = (),
    in_new_session: bool = True,
    on_message: Callable[[Message], None] = lambda message: None,
) -> ChildResult:
    """Runs a child process until it ends; kills it if this call is interrupted.

    Args:
      module: Name of the module to run.
      request: JSON values for the child's standard input.
      environment: All environment variables.
      arguments: Further arguments of the command line.
      in_new_session: As for `ChildProcess`.
      on_message: Called with each message.

    Raises:
      OSError: the process cannot be started.
    """
    last: Message = {}
    with tempfile.TemporaryFile() as output:
        with ChildProcess(
            module, arguments, output, environment, in_new_session=in_new_session
        ) as child:
            try:
                child.send_request(json.dumps(request))
                for message in child.messages():
                    on_message(message)
                    last = message
                returncode = child.wait()
            except BaseException:
                child.kill()
                raise
        output.seek(0)
        return ChildResult(last, returncode, last_output_line(output.read()))


def last_output_line(output: bytes) -> str:
    """Returns the last nonblank line, at most 300 characters; an empty string if there is none.

    If the process ended with an exception, this line contains its type and message.
    """
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:_OUTPUT_LINE_LENGTH] if lines else ""


def child_environment() -> dict[str, str]:
    """Returns the environment of a child: this project first in PYTHONPATH, unbuffered output."""
    python_path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(PROJECT_ROOT), *([python_path] if python_path else [])]
        ),
        "PYTHONUNBUFFERED": "1",
        # Modules in the current folder must not replace the project's packages.
        "PYTHONSAFEPATH": "1",
        "KERAS_BACKEND": "tensorflow",
    }
