"""The workers of a multi-worker run, as TF_CONFIG describes them.

TF_CONFIG is TensorFlow's own: {"cluster": {"worker": ["host:port", ...]},
"task": {"type": "worker", "index": 0}}. Worker 0 is the chief, the only one that
writes logs and results. TensorFlow is imported only where a trial connects.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

VARIABLE = "TF_CONFIG"


class ClusterError(RuntimeError):
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


def is_described() -> bool:
    """Whether TF_CONFIG names workers."""
    return bool(os.environ.get(VARIABLE, "").strip())


def from_environment() -> Cluster:
    """What TF_CONFIG says; one worker where it says nothing. Raises ClusterError."""
    if not is_described():
        return Cluster(("localhost",), 0)
    try:
        found = json.loads(os.environ[VARIABLE])
        return Cluster(tuple(found["cluster"]["worker"]), int(found["task"]["index"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{VARIABLE} is not what TensorFlow expects: {error!r}") from error


def connect() -> Any:
    """The strategy over all workers; all of them must call this."""
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy()
