"""The rendezvous before a run: all workers connect to the chief, which compares their fields.

The chief listens at its TF_CONFIG address. Every other worker connects there and sends its
index and its consistency fields (`consistency_fields`). When all workers are connected and
agree with the chief, the chief answers with the run number and the seed; `coordination`
sends that answer and keeps the connections. If a worker is missing or differs, the chief
sends the reason to every connected worker.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Mapping, NamedTuple

from harness.base import machine
from harness.base.clock import Stopwatch
from harness.config.trial_spec import TrialSpec
from harness.devices.tf_config import TIMEOUT_VARIABLE, Cluster, connect_to_worker
from harness.logs import provenance
from harness.multi_worker.connection import JsonConnection, Message, listen

# Pause before the next try to connect to a chief that does not listen yet.
_RETRY_SECONDS = 0.2
# Time limit for the first message of a connected process.
_HELLO_TIMEOUT_SECONDS = 10.0
# How long the chief waits for a new connection before it checks again whether the existing
# connections are still open.
_ACCEPT_SECONDS = 1.0
# Two different values are printed only if both together have at most this many characters.
_MAX_SHOWN_CHARACTERS = 40


class RendezvousError(RuntimeError):
    """Workers are missing or differ; the message is one line for the user."""


class RunAssignment(NamedTuple):
    """The number and the seed of a run, which the chief sends to all workers.

    Attributes:
      run: Number of the run in its set, from 0.
      seed: Seed of the run.
    """

    run: int
    seed: int


def consistency_fields(spec: TrialSpec) -> dict[str, Any]:
    """Collects the values that must be equal on all workers of a run.

    Args:
      spec: The trial of this worker.

    Returns:
      JSON values by their names in messages to the user.
    """
    packages = machine.versions()
    return {
        **{f"the setting {name}": value for name, value in spec.config.shared_settings().items()},
        "the number of runs so far": spec.trial_index,
        "the size of the dataset": [spec.num_users, spec.num_items, spec.num_positives],
        "the dataset": spec.split_digest,
        "the program's source": provenance.source_digest(),
        "the version of TensorFlow": sorted(
            version for name, version in packages.items() if name.startswith("tensorflow")
        ),
    }


def gather_workers(
    cluster: Cluster, fields: Message, timeout_s: float
) -> dict[int, JsonConnection]:
    """Waits, on the chief, until all other workers are connected and agree with it.

    Args:
      cluster: The workers; this process is the chief.
      fields: The chief's consistency fields.
      timeout_s: Longest wait for all workers, in seconds.

    Returns:
      The connections by worker index.

    Raises:
      RendezvousError: A worker did not connect in time or differs. Before this is raised, the
        reason is sent to all connected workers.
    """
    watch = Stopwatch()
    connections: dict[int, JsonConnection] = {}
    with _listen_as_chief(cluster) as listener:
        while True:
            # Drop workers that have ended, so that a worker restarted with the same index is
            # accepted.
            connections = {
                worker: connection
                for worker, connection in connections.items()
                if connection.is_open()
            }
            missing = sorted(set(range(1, cluster.num_workers)) - connections.keys())
            if not missing:
                return connections
            remaining_s = timeout_s - watch.seconds()
            if remaining_s <= 0:
                _refuse_all(connections, _describe_missing(cluster, missing, timeout_s))
            listener.settimeout(min(remaining_s, _ACCEPT_SECONDS))
            try:
                connection = JsonConnection(listener.accept()[0])
                hello = connection.receive(_HELLO_TIMEOUT_SECONDS) or {}
                worker, worker_fields = int(hello["worker"]), dict(hello["agree"])
            except (OSError, ValueError, TypeError, KeyError):
                continue  # no connection in time, or the program is not a worker
            if worker in missing:
                connections[worker] = connection
                difference = _describe_difference(cluster, worker, fields, worker_fields)
                if difference is not None:
                    _refuse_all(connections, difference)


def report_to_chief(
    cluster: Cluster, fields: Message, timeout_s: float
) -> tuple[Message, JsonConnection]:
    """Connects, on another worker, to the chief and waits for its answer.

    Args:
      cluster: The workers; this process is not the chief.
      fields: The consistency fields of this worker.
      timeout_s: Longest wait for the chief, in seconds.

    Returns:
      (The chief's `RunAssignment` as a dict, the connection to it.)

    Raises:
      RendezvousError: The chief refused, or could not be reached in time.
    """
    watch = Stopwatch()
    while (remaining_s := timeout_s - watch.seconds()) > 0:
        try:
            connection = JsonConnection(connect_to_worker(cluster, 0))
            connection.send({"worker": cluster.index, "agree": fields})
            # The chief answers when all workers have connected or its wait has timed out.
            answer = connection.receive(remaining_s + _HELLO_TIMEOUT_SECONDS) or {}
        except (OSError, ValueError):
            answer = {}
        if "refused" in answer:
            raise RendezvousError(str(answer["refused"]))
        if "go" in answer:
            return answer["go"], connection
        # No process listens yet, or another one does, such as the chief's previous process.
        time.sleep(_RETRY_SECONDS)
    raise RendezvousError(
        f"{cluster.name(0)} did not accept this worker within {timeout_s:g} s; start the same "
        f"command on each worker, or set a longer wait with {TIMEOUT_VARIABLE}"
    )


def _listen_as_chief(cluster: Cluster) -> socket.socket:
    """Opens the chief's listening socket. Raises RendezvousError."""
    try:
        return listen(cluster.endpoint(0)[1])
    except OSError as error:
        raise RendezvousError(
            f"{cluster.name(0)} cannot listen on its port: {error.strerror}"
        ) from None


def _refuse_all(connections: Mapping[int, JsonConnection], reason: str) -> None:
    """Sends the reason to all connected workers, then raises RendezvousError with it."""
    for connection in connections.values():
        connection.send({"refused": reason})
    raise RendezvousError(reason)


def _describe_difference(
    cluster: Cluster, worker: int, chief_fields: Message, worker_fields: Message
) -> str | None:
    """Describes the first field in which a worker differs from the chief; None if all agree."""
    for name in sorted(chief_fields.keys() | worker_fields.keys()):
        # A field present on only one side is also a difference: the programs are not the same.
        chief_value, worker_value = chief_fields.get(name), worker_fields.get(name)
        if chief_value != worker_value:
            is_short = len(f"{chief_value}{worker_value}") <= _MAX_SHOWN_CHARACTERS
            values = f": {worker_value} and {chief_value}" if is_short else ""
            return (
                f"{cluster.name(worker)} and {cluster.name(0)} differ in {name}{values}; start "
                "every worker with the same flags, data and program"
            )
    return None


def _describe_missing(cluster: Cluster, missing: list[int], timeout_s: float) -> str:
    """Describes which workers did not connect in time."""
    names = ", ".join(cluster.name(worker) for worker in missing)
    return (
        f"not all {cluster.num_workers} workers connected within {timeout_s:g} s: {names} did not; "
        f"start the same command on each, or set a longer wait with {TIMEOUT_VARIABLE}"
    )
