"""`python -m harness.inputs.write_shards`: the child process that looks after prepared shards.

For each run of a set it opens the shards; with `write` it verifies them and writes those
that are not there or cannot be used.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from harness.config.trial_spec import TrialSpec, dataset_spec
from harness.inputs import batch_input
from harness.processes import tensorflow_process
from reference_model.base.atomic_files import locked
from reference_model.base.progress import Progress
from reference_model.shards.header import HEADER, ShardError, join


def look_after(order: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """What `harness.inputs.batch_input.prepare` orders. Raises DataError."""
    specs = [TrialSpec.from_json(text) for text in order["specs"]]
    with contextlib.ExitStack() as stack:
        if order["write"] and not specs[0].config.data_url:
            path = Path(specs[0].config.data_dir, batch_input.FOLDER, ".lock")
            waiting = "waiting for another process that writes shards"
            stack.enter_context(locked(path, progress, waiting))
        for spec in specs:
            _look_after(spec, order, progress)
    return {"sets": len(specs)}


def _look_after(spec: TrialSpec, order: dict[str, Any], progress: Progress) -> None:
    from reference_model.shards.tfrecords import ShardReader, exists

    folder, wanted = batch_input.folder_of(spec), batch_input.made_for(spec)
    write = order["write"]
    remedy = "" if write else batch_input.REMEDY
    try:
        reader = ShardReader.open(folder, wanted, spec.config.max_epochs, remedy)
        if write:
            reader.verify(progress)
    except ShardError as error:
        if not write:
            raise
        if exists(join(folder, HEADER)):
            progress(f"{error}; writing them anew", None, None)
        _write(spec, folder, order, progress)


def _write(spec: TrialSpec, folder: str, order: dict[str, Any], progress: Progress) -> None:
    from reference_model.data.prepare import load_split
    from reference_model.shards.tfrecords import ShardWriter

    config, drawer = spec.config, batch_input.make_drawer(spec)
    drawer.prepare_drawing()
    drawer.draw_for(load_split(dataset_spec(config.track), config.data_dir), spec.seed)
    writer = ShardWriter(folder, batch_input.made_for(spec))
    writer.write_lists(drawer.evaluation_lists())
    for epoch in range(1, config.max_epochs + 1):
        writer.write_epoch(epoch, drawer.epoch_batches(epoch))
        progress(f"writing shards of run {spec.run}", epoch, config.max_epochs)
    writer.finish(config.max_epochs, order["dataset_name"], order["min_ratings"])


if __name__ == "__main__":
    sys.exit(tensorflow_process.answer("harness.inputs.write_shards", look_after))
