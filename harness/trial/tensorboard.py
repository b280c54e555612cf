"""HR, NDCG, loss and examples/s of a run by epoch, as TensorBoard reads them.

Written in one go when the clock of the run has stopped, with the times at which the
epochs ended. The records are TensorFlow's own; the package tensorboard is not needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence


@dataclass(frozen=True)
class EpochScalars:
    """The figures of one epoch; `wall_time` in seconds since the epoch of 1970."""

    epoch: int
    wall_time: float
    hr: float
    ndcg: float
    loss: float
    examples_per_second: float


def write(folder: Path, epochs: Sequence[EpochScalars], top_k: int) -> Path:
    """Writes an event file with a step an epoch; returns its path. Raises OSError."""
    import tensorflow as tf  # late: the trial process has it, others do without

    event, summary = tf.compat.v1.Event, tf.compat.v1.Summary
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{int(epochs[0].wall_time)}.{os.uname().nodename}"
    temporary = folder / f".{path.name}.tmp"
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        head = event(wall_time=epochs[0].wall_time, file_version="brain.Event:2")
        writer.write(head.SerializeToString())
        for found in epochs:
            values = {
                f"HR@{top_k}": found.hr,
                f"NDCG@{top_k}": found.ndcg,
                "loss": found.loss,
                "examples_per_second": found.examples_per_second,
            }
            told = summary(value=[summary.Value(tag=t, simple_value=v) for t, v in values.items()])
            record = event(wall_time=found.wall_time, step=found.epoch, summary=told)
            writer.write(record.SerializeToString())
    os.replace(temporary, path)
    return path
