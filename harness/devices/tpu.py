"""Finding and initialising a TPU, within a bound.

A TPU is named as `--tpu` says: `local` (the chips of this machine), a grpc address
(`host:port` or `grpc://host:port`), or the name of a Cloud TPU, with `--tpu_zone` and
`--tpu_project`. TensorFlow waits minutes or forever for one that does not answer, and
cannot be told not to. So an address is first asked by a plain socket, which cannot
hang, and TensorFlow's own calls run in a thread that is given up after the bound;
the process that gives up ends without waiting for it.
"""

from __future__ import annotations

import re
import socket
import threading
from typing import Any, Callable, TypeVar

from harness.config.run_config import ConfigError, RunConfig

# How long a TPU may take to answer, in seconds.
BOUND_SECONDS = 60.0
_ADDRESS = re.compile(r"(?:grpc://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_DEFAULT_PORT = 8470
# The beginning of HTTP/2, on which gRPC stands (RFC 9113, 3.4 and 6.5): the client's
# preface and an empty SETTINGS frame; the server must begin with a SETTINGS frame, too.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEAD, _SETTINGS = 9, 4

Found = TypeVar("Found")


class TpuError(ConfigError):
    """A TPU that does not answer; the message is one line."""


def probe(config: RunConfig, bound_s: float = BOUND_SECONDS) -> None:
    """Whether something answers where `--tpu` gives an address; needs no TensorFlow.

    Raises TpuError, at the latest after `bound_s` for each address.
    """
    name = config.tpu or "local"
    for host, port in _addresses(name):
        ask(name, host, port, bound_s)


def connect(config: RunConfig, bound_s: float = BOUND_SECONDS) -> tuple[Any, str]:
    """The strategy over the cores of the TPU that the flags name, and its name.

    Raises TpuError, at the latest a few seconds after `bound_s`.
    """
    name = config.tpu or "local"
    probe(config, bound_s)
    strategy = within(bound_s, name, lambda: _initialise(config, name))
    return strategy, name


def _addresses(name: str) -> list[tuple[str, int]]:
    """(host, port) of each address that `--tpu` gives; none for a name."""
    if name.startswith("grpc://") and not _ADDRESS.fullmatch(name):
        name = f"{name}:{_DEFAULT_PORT}"
    found = [_ADDRESS.fullmatch(part.strip()) for part in name.split(",")]
    if not all(found):
        if "://" in name or ":" in name:
            raise TpuError(
                f"--tpu={name} is no address; use local, a TPU's name, or grpc://HOST:PORT"
            )
        return []
    return [(match[1].strip("[]"), int(match[2])) for match in found]


def ask(name: str, host: str, port: int, bound_s: float) -> None:
    """Whether something that speaks gRPC answers at an address. Raises TpuError."""
    try:
        with socket.create_connection((host, port), timeout=bound_s) as connection:
            connection.settimeout(bound_s)
            connection.sendall(_PREFACE)
            head = b""
            while len(head) < _FRAME_HEAD:
                more = connection.recv(_FRAME_HEAD - len(head))
                if not more:
                    raise TpuError(_message(name, f"{host}:{port} closed the connection"))
                head += more
    except TimeoutError:
        raise TpuError(
            _message(name, f"{host}:{port} did not answer within {bound_s:g} s")
        ) from None
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TpuError(_message(name, f"{host}:{port}: {why.lower()}")) from None
    if head[3] != _SETTINGS:
        raise TpuError(_message(name, f"what answers at {host}:{port} does not speak gRPC"))


def within(bound_s: float, name: str, work: Callable[[], Found]) -> Found:
    """What `work` returns, if it does within the bound. Raises TpuError.

    `work` runs in a thread of its own, which is left alone where it takes longer: the
    caller has to end the process without waiting for it (os._exit).
    """
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, work()))
        except BaseException as error:  # handed to the thread that waits for it
            outcome.append((False, error))

    thread = threading.Thread(target=run, name="tpu", daemon=True)
    thread.start()
    thread.join(bound_s)
    if not outcome:
        raise TpuError(_message(name, f"it did not answer within {bound_s:g} s"))
    good, found = outcome[0]
    if good:
        return found
    if isinstance(found, TpuError):
        raise found
    why = " ".join(f"{type(found).__name__}: {found}".split())[:200]
    raise TpuError(_message(name, why)) from found


def _message(name: str, why: str) -> str:
    return (
        f"--tpu={name}: there is no TPU that answers: {why}; check the name or address, "
        "--tpu_zone and --tpu_project, or leave --tpu out"
    )


def _initialise(config: RunConfig, name: str) -> Any:
    import tensorflow as tf

    address = name if "://" in name or not _addresses(name) else f"grpc://{name}"
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
        tpu=address, zone=config.tpu_zone, project=config.tpu_project
    )
    tf.config.experimental_connect_to_cluster(resolver)
    topology = tf.tpu.experimental.initialize_tpu_system(resolver)
    cores = topology.num_tasks * topology.num_tpus_per_task
    count = config.num_devices
    if count is None or count == cores:
        return tf.distribute.TPUStrategy(resolver)
    if count > cores:
        raise TpuError(f"--num_devices={count}: the TPU {name} has {cores} cores")
    some = tf.tpu.experimental.DeviceAssignment.build(topology, num_replicas=count)
    return tf.distribute.TPUStrategy(resolver, experimental_device_assignment=some)
