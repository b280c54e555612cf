"""Finding and initialising a TPU."""

from __future__ import annotations

from typing import Any

from harness.config import RunConfig


class TpuError(RuntimeError):
    """A TPU that does not answer; the message is one line."""


def connect(config: RunConfig) -> tuple[Any, str]:
    """The strategy over the cores of the TPU that the flags name, and its name."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
        tpu=config.tpu or "local", zone=config.tpu_zone, project=config.tpu_project
    )
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver), config.tpu or "local"
