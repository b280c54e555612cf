"""Writes HR, NDCG, loss and examples/s of a run's epochs, and its settings, for TensorBoard.

They are all written after the run's clock has stopped, with the times at which the epochs
ended. The records use TensorFlow's own protocol buffers, so the package `tensorboard` is not
needed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence


@dataclass(frozen=True)
class EpochScalars:
    """The scalars of one epoch.

    Attributes:
      epoch: From 1.
      wall_time: Time at which the epoch ended, in seconds since 1970.
      hr: Hit rate at K.
      ndcg: NDCG at K.
      loss: Mean training loss.
      examples_per_second: Training throughput.
    """

    epoch: int
    wall_time: float
    hr: float
    ndcg: float
    loss: float
    examples_per_second: float


def write(
    folder: Path, epochs: Sequence[EpochScalars], top_k: int, settings: Mapping[str, Any]
) -> Path:
    """Writes an event file with one step per epoch, then the settings as a text.

    Args:
      folder: Folder of the TensorBoard run; created if it does not exist.
      epochs: At least one epoch.
      top_k: The K of HR and NDCG, for the tags.
      settings: The settings of the run by name; None if a setting was not given.

    Returns:
      The path of the event file.

    Raises:
      OSError: The folder cannot be written to.
    """
    import tensorflow as tf  # late, because only the trial process imports it

    event, summary = tf.compat.v1.Event, tf.compat.v1.Summary
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{int(epochs[0].wall_time)}.{os.uname().nodename}"
    # TensorBoard may be watching the folder: it must not see a partial file.
    temporary = folder / f".{path.name}.tmp"
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        # The first record of an event file contains the version of the format.
        head = event(wall_time=epochs[0].wall_time, file_version="brain.Event:2")
        writer.write(head.SerializeToString())
        for scalars in epochs:
            values = {
                f"HR@{top_k}": scalars.hr,
                f"NDCG@{top_k}": scalars.ndcg,
                "loss": scalars.loss,
                "examples_per_second": scalars.examples_per_second,
            }
            step_summary = summary(
                value=[summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
            )
            record = event(
                wall_time=scalars.wall_time, step=scalars.epoch, summary=step_summary
            )
            writer.write(record.SerializeToString())
        last = epochs[-1]
        text = event(wall_time=last.wall_time, step=last.epoch, summary=_text_summary(settings))
        writer.write(text.SerializeToString())
    os.replace(temporary, path)
    return path


def _text_summary(settings: Mapping[str, Any]) -> Any:
    """Returns a summary that TensorBoard shows as a Markdown table among the texts."""
    import tensorflow as tf

    rows = [f"| {name} | `{json.dumps(value)}` |" for name, value in settings.items()]
    table = "\n".join(["| setting | value |", "|---|---|", *rows])
    summary = tf.compat.v1.Summary()
    value = summary.value.add(tag="settings")
    value.metadata.plugin_data.plugin_name = "text"
    value.tensor.CopyFrom(tf.make_tensor_proto([table]))
    return summary
