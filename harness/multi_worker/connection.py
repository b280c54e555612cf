"""Messages between the processes of one run: JSON objects, one a line, over TCP."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from typing import Any, Callable

from harness.base.clock import Stopwatch

# After how long a silence a process is given up; it says every BEAT_SECONDS that it lives.
BEAT_SECONDS, SILENCE_SECONDS = 2.0, 40.0
_MAX_LINE = 1 << 20

Message = dict[str, Any]


class WorkerLost(RuntimeError):
    """Another worker is gone; the message says which, and why if it said so."""


def open_door(port: int) -> socket.socket:
    """A listening socket at all addresses of this machine. Raises OSError."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


class Wire:
    """One end of a connection."""

    def __init__(self, one: socket.socket):
        self._socket, self._rest = one, b""
        self._sending = threading.Lock()
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Message) -> bool:
        """Whether it could be said; it is not known whether it was heard."""
        try:
            with self._sending:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
            return True
        except OSError:
            return False

    def receive(self, seconds: float) -> Message | None:
        """The next message, None at the end of the connection.

        Raises OSError (TimeoutError after `seconds` without a byte), or ValueError where
        something else comes than a message.
        """
        self._socket.settimeout(seconds)
        while b"\n" not in self._rest:
            if len(self._rest) > _MAX_LINE:
                raise ValueError("a line without end")
            data = self._socket.recv(65536)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            message = json.loads(line)
        except RecursionError as error:
            raise ValueError("no message") from error
        if not isinstance(message, dict):
            raise ValueError("no message")
        return message

    def is_open(self) -> bool:
        """Whether the other end, which has nothing to say now, is still there."""
        self._socket.settimeout(0)
        try:
            return self._socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        self._socket.close()


class Link:
    """A wire to another worker's process, with a thread that listens to it.

    `on_lost(message, usage)` is called in that thread when the other one has ended or is
    silent; `usage` where it met a flag that cannot be.
    """

    def __init__(self, wire: Wire, name: str, on_lost: Callable[[str, bool], None]):
        self._wire, self._on_lost = wire, on_lost
        self._heard: queue.Queue[Message | None] = queue.Queue()
        self._why = ""
        self._since = Stopwatch()
        self.name, self.send = name, wire.send

    def start(self) -> None:
        threading.Thread(target=self._listen, name=f"from {self.name}", daemon=True).start()

    def receive(self, key: str, seconds: float | None = None) -> Any:
        """The value of the next message, which must have `key`. Raises WorkerLost."""
        try:
            message = self._heard.get(timeout=seconds)
        except queue.Empty:
            raise WorkerLost(f"{self.name} did not answer within {seconds:g} s") from None
        if message is None:
            self._heard.put(None)  # for whoever asks next
            raise WorkerLost(self._why)
        if key not in message:
            raise WorkerLost(f"{self.name} is out of step: it says {sorted(message)}, not {key}")
        return message[key]

    def silence(self) -> float:
        """Seconds since the other one was heard."""
        return self._since.seconds()

    def _listen(self) -> None:
        self._why, usage = self._until_lost()
        self._heard.put(None)
        self._on_lost(self._why, usage)

    def _until_lost(self) -> tuple[str, bool]:
        try:
            while (message := self._wire.receive(SILENCE_SECONDS)) is not None:
                self._since.lap()
                if "leaves" in message:
                    said, usage = str(message["leaves"]), bool(message.get("usage"))
                    return (said if usage else f"{self.name} ended: {said}"), usage
                if "beat" not in message:
                    self._heard.put(message)
        except TimeoutError:
            return f"{self.name} was silent for {SILENCE_SECONDS:g} s", False
        except (OSError, ValueError):
            pass
        return f"{self.name} is gone", False
