"""`python -m harness.write_shards`: the child process that looks after prepared shards.

For each run of a set it opens the shards; with `write` it verifies them and writes those
that are not there or cannot be used.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from harness import children, inputs
from harness.trial_spec import TrialSpec, dataset_spec
from reference_model.files import locked
from reference_model.shard_header import HEADER, ShardError, join
from reference_model.tables import Progress


def look_after(order: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """What `harness.inputs.prepare` orders. Raises DataError."""
    specs = [TrialSpec.from_json(text) for text in order["specs"]]
    with contextlib.ExitStack() as stack:
        if order["write"] and not specs[0].config.data_url:
            path = Path(specs[0].config.data_dir, inputs.FOLDER, ".lock")
            waiting = "waiting for another process that writes shards"
            stack.enter_context(locked(path, progress, waiting))
        for spec in specs:
            _look_after(spec, order, progress)
    return {"sets": len(specs)}


def _look_after(spec: TrialSpec, order: dict[str, Any], progress: Progress) -> None:
    from reference_model.shards import ShardReader, exists

    folder, wanted = inputs.folder_of(spec), inputs.made_for(spec)
    write = order["write"]
    remedy = "" if write else inputs.REMEDY
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
    from reference_model.cache import load_split
    from reference_model.shards import ShardWriter

    config, drawer = spec.config, inputs.make_drawer(spec)
    drawer.prepare_drawing()
    drawer.draw_for(load_split(dataset_spec(config.track), config.data_dir), spec.seed)
    writer = ShardWriter(folder, inputs.made_for(spec))
    writer.write_lists(drawer.evaluation_lists())
    for epoch in range(1, config.max_epochs + 1):
        writer.write_epoch(epoch, drawer.epoch_batches(epoch))
        progress(f"writing shards of run {spec.run}", epoch, config.max_epochs)
    writer.finish(config.max_epochs, order["dataset_name"], order["min_ratings"])


if __name__ == "__main__":
    sys.exit(children.answer("harness.write_shards", look_after))
