"""The workers of a multi-worker run, as TF_CONFIG describes them.

TF_CONFIG is TensorFlow's own: {"cluster": {"worker": ["host:port", ...]},
"task": {"type": "worker", "index": 0}}. Worker 0 is the chief, the only one that
writes logs and results; where the cluster names a "chief", that is worker 0 and the
others are counted after it. Read here without TensorFlow, so that a mistake ends the
run before anything is made.
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
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
PATIENCE_VARIABLE = "NEUMF_WORKER_SECONDS"
# How long workers wait for each other before the first run, and before a later one.
FIRST_SECONDS, NEXT_SECONDS = 120.0, 50.0
# How long one address may take to answer a call.
_PROBE_SECONDS = 2.0


class ClusterError(ValueError):
    """A cluster that cannot be; the message is one line."""


@dataclass(frozen=True)
class Cluster:
    """Addresses of all workers and which of them this process is."""

    workers: tuple[str, ...]
    index: int

    @property
    def num_workers(self) -> int:
        return len(self.workers)

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def num_nodes(self) -> int:
        """How many machines, by their names in the addresses."""
        return len({self.endpoint(worker)[0] for worker in range(self.num_workers)})

    def name(self, worker: int) -> str:
        """How messages call a worker."""
        return f"{'the chief' if worker == 0 else f'worker {worker}'} ({self.workers[worker]})"

    def endpoint(self, worker: int) -> tuple[str, int]:
        """(host, port) of a worker, as sockets take them."""
        host, _, port = self.workers[worker].rpartition(":")
        return host.strip("[]"), int(port)


def is_described() -> bool:
    """Whether TF_CONFIG is set to anything."""
    return bool(os.environ.get(VARIABLE, "").strip())


def for_run(config: RunConfig) -> Cluster | None:
    """The cluster that a run with these settings trains on; None where it is alone.

    Raises:
      ClusterError: TF_CONFIG cannot be, or is missing where the flags ask for it.
    """
    if config.device == "tpu" or config.strategy not in ("auto", "multi_worker_mirrored"):
        return None
    if is_described():
        return parse(os.environ[VARIABLE])
    if config.strategy == "auto":
        return None
    raise ClusterError(
        f"--strategy=multi_worker_mirrored: {VARIABLE} does not name the workers; set it on "
        "each of them (docs/multi-worker.md), or leave --strategy out"
    )


def parse(text: str) -> Cluster:
    """The cluster in a value of TF_CONFIG. Raises ClusterError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"is not JSON ({error}); write it as {EXAMPLE}") from None
    jobs = value.get("cluster") if isinstance(value, dict) else None
    if not isinstance(jobs, dict) or not jobs.keys() & {"worker", "chief"}:
        raise _wrong(f"has no list of workers; write it as {EXAMPLE}, or unset {VARIABLE}")
    strange = sorted(jobs.keys() - {"worker", "chief"})
    if strange:
        raise _wrong(f"names {strange[0]!r} tasks, which have no part here; use workers only")
    chief, others = (_addresses(jobs, job) for job in ("chief", "worker"))
    if len(chief) > 1:
        raise _wrong(f"names {len(chief)} chiefs; there can be one")
    workers = (*chief, *others)
    for address in workers:
        if workers.count(address) > 1:
            raise _wrong(f"names {address} twice; each worker has an address of its own")
    return Cluster(workers, _index(value.get("task"), len(chief), len(others)))


def _addresses(jobs: dict[str, Any], job: str) -> tuple[str, ...]:
    found = jobs.get(job, [])
    if not isinstance(found, list) or (job in jobs and not found):
        raise _wrong(f"has no list of addresses for {job!r}; write [\"host:port\", ...]")
    for address in found:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match.group(2)) < 65536:
            raise _wrong(f"has the address {address!r}; write host:port, the port up to 65535")
    return tuple(found)


def _index(task: Any, chiefs: int, others: int) -> int:
    """This process's place among all workers."""
    if not isinstance(task, dict) or not {"type", "index"} <= task.keys():
        raise _wrong('does not say which worker this is; add "task": {"type": ..., "index": ...}')
    kind, index = task["type"], task["index"]
    counts = {name: n for name, n in (("chief", chiefs), ("worker", others)) if n}
    if not isinstance(kind, str) or kind not in counts:
        raise _wrong(f"says that this is task {kind!r}, which the cluster does not have")
    if isinstance(index, str) and re.fullmatch(r"\d{1,9}", index):
        index = int(index)
    if type(index) is not int or not 0 <= index < counts[kind]:
        places = f"0 to {counts[kind] - 1}" if counts[kind] > 1 else "0 only"
        raise _wrong(f"has the index {task['index']!r}; the {kind} list has {places}")
    return index + (chiefs if kind == "worker" else 0)


def _wrong(what: str) -> ClusterError:
    return ClusterError(f"{VARIABLE} {what}")


# -- addresses ----------------------------------------------------------------


def check_port(cluster: Cluster) -> None:
    """Raises ClusterError where this worker cannot listen at its own port."""
    port = cluster.endpoint(cluster.index)[1]
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("", port))
            # Of two that bind alike only one can listen.
            found.listen()
        except OSError as error:
            raise ClusterError(
                f"{VARIABLE} gives {cluster.name(cluster.index)} port {port}, which cannot be "
                f"listened at ({error.strerror}); end what uses it, or name another port on "
                "every worker"
            ) from None


def call(cluster: Cluster, worker: int) -> socket.socket:
    """A connection to a worker's address. Raises OSError."""
    return socket.create_connection(cluster.endpoint(worker), _PROBE_SECONDS)


# -- all of them --------------------------------------------------------------


def patience(first: bool) -> float:
    """Seconds that a worker waits for all the others: NEUMF_WORKER_SECONDS, or as long as
    people and queues take before the first run, as long as a process takes after it.

    Raises ClusterError where the variable is no number of seconds.
    """
    given = os.environ.get(PATIENCE_VARIABLE)
    if not given:
        return FIRST_SECONDS if first else NEXT_SECONDS
    if not re.fullmatch(r"\d{1,6}(\.\d*)?", given):
        raise ClusterError(f"{PATIENCE_VARIABLE}={given}: use a number of seconds")
    return float(given)


def connect(cluster: Cluster, accelerators: int) -> Any:
    """The strategy over `accelerators` GPUs, or the CPU, of each worker; returns when all
    workers have called this. Only a trial process may: it needs TensorFlow."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": accelerators} if accelerators else {},
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)
