"""The workers of a multi-worker run, as TensorFlow's variable TF_CONFIG describes them.

The variable's value is {"cluster": {"worker": ["host:port", ...]},
"task": {"type": "worker", "index": 0}}. Worker 0 is the chief, the only one that writes
logs and results. If the cluster contains a "chief", the chief is worker 0 and the others
follow. This module reads the variable without TensorFlow, so that an invalid value is
reported before any file is written.
"""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Any

from harness.config.run_config import RunConfig

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
# host:port; the host is a name, an IPv4 address or an IPv6 address in brackets.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
TIMEOUT_VARIABLE = "NEUMF_WORKER_SECONDS"
# How long workers wait for each other. Before the first run, users or job queues start the
# workers one after another. Before a later run, only child processes have to start.
FIRST_RENDEZVOUS_SECONDS, NEXT_RENDEZVOUS_SECONDS = 120.0, 50.0
# How long one address may take to accept a connection.
_CONNECT_SECONDS = 2.0


class ClusterError(ValueError):
    """TF_CONFIG or a related variable is invalid; the message is one line."""


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, and the index of this one.

    Attributes:
      workers: Addresses of all workers, "host:port"; the chief's is the first.
      index: Index of this process in `workers`.
    """

    workers: tuple[str, ...]
    index: int

    @property
    def num_workers(self) -> int:
        """Number of workers that train together."""
        return len(self.workers)

    @property
    def is_chief(self) -> bool:
        """Whether this process is the worker that writes logs and results."""
        return self.index == 0

    @property
    def num_nodes(self) -> int:
        """Number of machines, counted as the different hosts in the addresses."""
        return len({self.endpoint(worker)[0] for worker in range(self.num_workers)})

    def name(self, worker: int) -> str:
        """Returns the name of a worker for messages."""
        return f"{'the chief' if worker == 0 else f'worker {worker}'} ({self.workers[worker]})"

    def endpoint(self, worker: int) -> tuple[str, int]:
        """Returns (host, port) of a worker in the form that sockets expect."""
        host, _, port = self.workers[worker].rpartition(":")
        return host.strip("[]"), int(port)


def is_set() -> bool:
    """Returns whether TF_CONFIG has a value other than white space."""
    return bool(os.environ.get(VARIABLE, "").strip())


def read_cluster(config: RunConfig) -> Cluster | None:
    """Returns the cluster that a run trains on; None for a run on one machine.

    Raises:
      ClusterError: TF_CONFIG is invalid, or missing although the flags require it.
    """
    # The other strategies ignore TF_CONFIG.
    if config.device == "tpu" or config.strategy not in ("auto", "multi_worker_mirrored"):
        return None
    if is_set():
        return parse_cluster(os.environ[VARIABLE])
    if config.strategy == "auto":
        return None
    raise ClusterError(
        f"--strategy=multi_worker_mirrored: {VARIABLE} does not name the workers; set it on "
        "each of them (docs/multi-worker.md), or remove --strategy"
    )


def parse_cluster(text: str) -> Cluster:
    """Reads a value of TF_CONFIG. Raises ClusterError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"is not JSON ({error}); write it as {EXAMPLE}") from None
    jobs = value.get("cluster") if isinstance(value, dict) else None
    if not isinstance(jobs, dict) or not jobs.keys() & {"worker", "chief"}:
        raise _invalid(f"has no list of workers; write it as {EXAMPLE}, or unset {VARIABLE}")
    unknown = sorted(jobs.keys() - {"worker", "chief"})
    if unknown:
        raise _invalid(f"names {unknown[0]!r} tasks, which are not supported; use workers only")
    chief, others = (_addresses(jobs, job) for job in ("chief", "worker"))
    if len(chief) > 1:
        raise _invalid(f"names {len(chief)} chiefs; name only one")
    workers = (*chief, *others)
    for address in workers:
        if workers.count(address) > 1:
            raise _invalid(f"names {address} twice; give each worker its own address")
    return Cluster(workers, _worker_index(value.get("task"), len(chief), len(others)))


def _addresses(jobs: dict[str, Any], job: str) -> tuple[str, ...]:
    """Returns the addresses of one job ("chief" or "worker"); empty if it is missing."""
    found = jobs.get(job, [])
    if not isinstance(found, list) or (job in jobs and not found):
        raise _invalid(f"has no list of addresses for {job!r}; write [\"host:port\", ...]")
    for address in found:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match.group(2)) < 65536:
            raise _invalid(f"has the address {address!r}; write host:port with port 1 to 65535")
    return tuple(found)


def _worker_index(task: Any, num_chiefs: int, num_others: int) -> int:
    """Returns the index of this process among all workers; the chief is the first."""
    if not isinstance(task, dict) or not {"type", "index"} <= task.keys():
        raise _invalid('does not identify this worker; add "task": {"type": ..., "index": ...}')
    job, index = task["type"], task["index"]
    counts = {"chief": num_chiefs, "worker": num_others}
    counts = {name: count for name, count in counts.items() if count}
    if not isinstance(job, str) or job not in counts:
        raise _invalid(f"identifies this process as task {job!r}, which is not in the cluster")
    # Some schedulers write the index as a string.
    if isinstance(index, str) and re.fullmatch(r"\d{1,9}", index):
        index = int(index)
    if type(index) is not int or not 0 <= index < counts[job]:
        places = f"indices 0 to {counts[job] - 1}" if counts[job] > 1 else "index 0 only"
        raise _invalid(f"has the index {task['index']!r}; the {job} list has {places}")
    return index + (num_chiefs if job == "worker" else 0)


def _invalid(problem: str) -> ClusterError:
    """Returns an error whose message begins with the variable's name."""
    return ClusterError(f"{VARIABLE} {problem}")


# -- sockets ------------------------------------------------------------------


def check_port(cluster: Cluster) -> None:
    """Checks that this worker can listen on its own port. Raises ClusterError."""
    port = cluster.endpoint(cluster.index)[1]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            # With SO_REUSEADDR two sockets can bind to a port, but only one can listen.
            probe.listen()
        except OSError as error:
            raise ClusterError(
                f"{VARIABLE}: {cluster.name(cluster.index)} cannot listen on port {port} "
                f"({error.strerror}); end the process that uses it, or name another port on "
                "every worker"
            ) from None


def connect_to_worker(cluster: Cluster, worker: int) -> socket.socket:
    """Opens a connection to a worker's address. Raises OSError."""
    return socket.create_connection(cluster.endpoint(worker), _CONNECT_SECONDS)


# -- all workers --------------------------------------------------------------


def rendezvous_timeout(is_first_run: bool) -> float:
    """Returns how many seconds a worker waits for all others before a run.

    NEUMF_WORKER_SECONDS sets it; the default depends on whether it is the first run.

    Raises:
      ClusterError: The variable is not a number of seconds.
    """
    given = os.environ.get(TIMEOUT_VARIABLE)
    if not given:
        return FIRST_RENDEZVOUS_SECONDS if is_first_run else NEXT_RENDEZVOUS_SECONDS
    if not re.fullmatch(r"\d{1,6}(\.\d*)?", given):
        raise ClusterError(f"{TIMEOUT_VARIABLE}={given}: use a number of seconds")
    return float(given)


def make_strategy(cluster: Cluster, num_gpus: int) -> Any:
    """Connects TensorFlow on all workers; returns when all of them have called this.

    Only a trial process may call it, since it imports TensorFlow.

    Args:
      cluster: The workers.
      num_gpus: GPUs of each worker; with 0 the workers train on their CPUs.

    Returns:
      A tf.distribute.MultiWorkerMirroredStrategy.
    """
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": num_gpus} if num_gpus else {},
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)
