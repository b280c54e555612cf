"""Probes the addresses in `--tpu`; imports only the standard library.

`python -m harness.devices.tpu_address VALUE` probes them before an environment is created.
"""

from __future__ import annotations

import re
import socket
import sys

# Longest time in which a TPU must answer.
TIMEOUT_SECONDS = 60.0
_ADDRESS = re.compile(r"(?:grpc://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_DEFAULT_PORT = 8470
# gRPC runs over HTTP/2. A connection begins (RFC 9113, 3.4 and 6.5) with the client's
# preface and an empty SETTINGS frame. The server must also begin with a SETTINGS frame.
# A frame's head has 9 bytes; byte 3 is the type.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEAD_BYTES, _SETTINGS_TYPE = 9, 4


class AddressError(ValueError):
    """No TPU answers at an address, or the address is invalid; the message is one line."""


def check_addresses(name: str, timeout_s: float = TIMEOUT_SECONDS) -> None:
    """Checks that a gRPC server answers at each address in `--tpu`.

    Args:
      name: The value of `--tpu`; a value that is not an address is not checked.
      timeout_s: Seconds that each address may take.

    Raises:
      AddressError: A server does not answer within `timeout_s` seconds, or an address is
        invalid.
    """
    for host, port in addresses_in(name):
        check_grpc_server(name, host, port, timeout_s)


def addresses_in(name: str) -> list[tuple[str, int]]:
    """Returns (host, port) of each address in `--tpu`; empty if the value is a name."""
    if name.startswith("grpc://") and not _ADDRESS.fullmatch(name):
        name = f"{name}:{_DEFAULT_PORT}"
    matches = [_ADDRESS.fullmatch(part.strip()) for part in name.split(",")]
    if not all(matches):
        if "://" in name or ":" in name:
            raise AddressError(
                f"--tpu={name} is not an address; use local, a TPU's name, or grpc://HOST:PORT"
            )
        return []
    return [(match[1].strip("[]"), int(match[2])) for match in matches]


def check_grpc_server(name: str, host: str, port: int, timeout_s: float) -> None:
    """Checks that an HTTP/2 server answers at an address. Raises AddressError.

    Args:
      name: The value of `--tpu`, for the message.
      host: Name or address of the server.
      port: Port of the server.
      timeout_s: Timeout of the connection and of each read, in seconds.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(_PREFACE)
            head = b""
            while len(head) < _FRAME_HEAD_BYTES:
                received = connection.recv(_FRAME_HEAD_BYTES - len(head))
                if not received:
                    reason = f"{host}:{port} closed the connection"
                    raise AddressError(no_answer_message(name, reason))
                head += received
    except TimeoutError:
        raise AddressError(
            no_answer_message(name, f"{host}:{port} did not answer within {timeout_s:g} s")
        ) from None
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressError(no_answer_message(name, f"{host}:{port}: {reason.lower()}")) from None
    if head[3] != _SETTINGS_TYPE:
        reason = f"the server at {host}:{port} does not speak gRPC"
        raise AddressError(no_answer_message(name, reason))


def no_answer_message(name: str, reason: str) -> str:
    """Returns the message about a TPU that does not answer, with the remedies."""
    return (
        f"--tpu={name}: no TPU answers: {reason}; check the name or address, "
        "--tpu_zone and --tpu_project, or remove --tpu"
    )


if __name__ == "__main__":
    try:
        check_addresses(sys.argv[1])
    except AddressError as error:
        print(f"neumf-bench: {error}", file=sys.stderr)
        sys.exit(1)
