"""Messages between the worker processes of one run: JSON objects, one per line, over TCP.

Every other worker is connected to the chief. A message is identified by its keys:

    keys            sender     meaning
    worker, agree   a worker   the first message: its index and its consistency fields
    go              the chief  answer: all workers agree; the run's number (run) and seed
    refused         the chief  answer: workers are missing or differ; the reason as text
    begin           the chief  its clock runs: the others may read the dataset (always true)
    stop            the chief  after an epoch: whether the run ends after it
    more            the chief  after the run: whether another run follows
    heard           a worker   confirms that `more` has arrived (always true)
    beat            both       heartbeat (always true)
    leaves, usage   both       the process ends before its run has ended: the reason as
                               text, and whether a flag with an invalid value is the cause
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from typing import Any, Callable

from harness.base.clock import Stopwatch

# Interval of the heartbeats of every process.
HEARTBEAT_SECONDS = 2.0
# A process that sends nothing for this long is treated as lost.
SILENCE_LIMIT_SECONDS = 40.0
# A longer line is not a message of this program and is not read into memory.
_MAX_LINE_BYTES = 1 << 20

Message = dict[str, Any]


class WorkerLost(RuntimeError):
    """Another worker is lost; the message names it and contains its reason if it sent one."""


def listen(port: int) -> socket.socket:
    """Opens a listening socket on all addresses of this machine.

    Args:
      port: TCP port.

    Returns:
      A socket for IPv6 and IPv4 if the system supports both on one socket, else for IPv4.

    Raises:
      OSError: The socket cannot listen on that port.
    """
    if socket.has_dualstack_ipv6():
        # IPv6 may be disabled in the kernel although Python supports it.
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


class JsonConnection:
    """One end of a TCP connection for JSON objects, one per line.

    `send` may be called from several threads at once, `receive` from one only.
    """

    def __init__(self, connected: socket.socket):
        self._socket = connected
        # Bytes received after the end of the last message.
        self._buffer = b""
        self._send_lock = threading.Lock()
        # Messages are short and the other end waits for each one, so send each at once instead
        # of batching them (Nagle's algorithm).
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Message) -> bool:
        """Sends one message.

        Returns:
          False if the connection is broken. True does not mean that the other end has
          received the message.
        """
        try:
            with self._send_lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
            return True
        except OSError:
            return False

    def receive(self, timeout_s: float) -> Message | None:
        """Waits for the next message.

        Args:
          timeout_s: Longest wait for further bytes, in seconds.

        Returns:
          The message; None if the other end has closed the connection.

        Raises:
          OSError: The connection broke; TimeoutError if no byte arrived in time.
          ValueError: The received bytes are not a line with one JSON object.
        """
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise ValueError("the line is too long")
            data = self._socket.recv(65536)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except RecursionError as error:  # deeply nested brackets
            raise ValueError("not a message") from error
        if not isinstance(message, dict):
            raise ValueError("not a message")
        return message

    def is_open(self) -> bool:
        """Returns whether the other end is still connected.

        Call it only while the other end sends nothing.
        """
        self._socket.settimeout(0)
        try:
            # Peeking blocks while the other end is connected, and returns b"" after it has closed.
            return self._socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


class PeerConnection:
    """The connection to another worker's process, with its own reading thread.

    The thread drops heartbeats and queues all other messages. It detects that the other process
    has ended or has been silent for too long; that process is then lost.

    Args:
      connection: The connection to the other process.
      name: The other worker's name in messages to the user.
      on_lost: Called as `on_lost(message, is_usage_error)` in the reading thread when the
        other process is lost. `is_usage_error` is true if it ended because of a flag
        with an invalid value.
    """

    def __init__(
        self, connection: JsonConnection, name: str, on_lost: Callable[[str, bool], None]
    ):
        self._connection, self._on_lost = connection, on_lost
        # None in the queue means that no further message will come.
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._loss_message = ""
        self._since_last_message = Stopwatch()
        self.name, self.send = name, connection.send

    def start(self) -> None:
        """Starts the reading thread."""
        threading.Thread(
            target=self._read_until_lost, name=f"from {self.name}", daemon=True
        ).start()

    def receive_value(self, key: str, timeout_s: float | None = None) -> Any:
        """Waits for the next message and returns its value under `key`.

        Args:
          key: The key that the message must have.
          timeout_s: Longest wait in seconds; None waits until the worker is lost.

        Raises:
          WorkerLost: The worker is lost, did not answer in time, or sent another key.
        """
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            raise WorkerLost(f"{self.name} did not answer within {timeout_s:g} s") from None
        if message is None:
            # Put the end mark back, so that later calls also return at once.
            self._messages.put(None)
            raise WorkerLost(self._loss_message)
        if key not in message:
            raise WorkerLost(f"{self.name} is out of step: it sent {sorted(message)}, not {key}")
        return message[key]

    def wait_until_lost(self, timeout_s: float) -> None:
        """Waits until the other process is lost.

        Call it only if no further message is expected: a message would also end the wait.

        Args:
          timeout_s: Longest wait in seconds.
        """
        try:
            if self._messages.get(timeout=timeout_s) is None:
                # Put the end mark back, as `receive_value` does.
                self._messages.put(None)
        except queue.Empty:
            pass

    def seconds_since_message(self) -> float:
        """Returns the seconds since the last message or heartbeat of the other process."""
        return self._since_last_message.seconds()

    def _read_until_lost(self) -> None:
        """The body of the reading thread."""
        self._loss_message, is_usage_error = self._queue_messages_until_lost()
        self._messages.put(None)
        self._on_lost(self._loss_message, is_usage_error)

    def _queue_messages_until_lost(self) -> tuple[str, bool]:
        """Queues messages until the worker is lost; returns the arguments of `on_lost`."""
        try:
            while (message := self._connection.receive(SILENCE_LIMIT_SECONDS)) is not None:
                self._since_last_message.lap()
                # The other process ends before its run has ended; see WorkerGroup.announce_exit.
                if "leaves" in message:
                    reason = str(message["leaves"])
                    is_usage_error = bool(message.get("usage"))
                    return (
                        reason if is_usage_error else f"{self.name} ended: {reason}"
                    ), is_usage_error
                if "beat" not in message:
                    self._messages.put(message)
        except TimeoutError:
            return f"{self.name} was silent for {SILENCE_LIMIT_SECONDS:g} s", False
        except (OSError, ValueError):
            pass
        return f"{self.name} is gone", False
