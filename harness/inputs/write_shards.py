"""`python -m harness.inputs.write_shards`: a child process that checks and writes shards.

It opens the prepared shards of each run of a set. If `write` is set in its request, it verifies
them and writes those that are missing or unusable.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from harness.config.trial_spec import TrialSpec, dataset_spec
from harness.inputs import batch_input
from harness.processes import tensorflow_process
from reference_model.base.atomic_files import file_lock
from reference_model.base.progress import Progress
from reference_model.shards.header import HEADER_NAME, ShardError, join_path


def ensure_shards(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Checks the shards of all runs, and writes them if requested.

    Args:
      request: {"specs": TrialSpecs as JSON, "write": bool, "dataset_name": str,
        "min_ratings": int}, as `batch_input.prepare_shards` makes it.
      progress: Called with a description of the current step.

    Returns:
      {"sets": number of runs whose shards are usable now}.

    Raises:
      DataError: Shards are missing or unusable, or cannot be written.
    """
    specs = [TrialSpec.from_json(text) for text in request["specs"]]
    with contextlib.ExitStack() as stack:
        # One writer at a time; file systems behind a URL have no locks.
        if request["write"] and not specs[0].config.data_url:
            path = Path(specs[0].config.data_dir, batch_input.SHARDS_FOLDER, ".lock")
            waiting = "waiting for another process to write shards"
            stack.enter_context(file_lock(path, progress, waiting))
        for spec in specs:
            _ensure_run_shards(spec, request, progress)
    return {"sets": len(specs)}


def _ensure_run_shards(spec: TrialSpec, request: dict[str, Any], progress: Progress) -> None:
    """Checks the shards of one run, and writes them if necessary and requested."""
    from reference_model.shards.tfrecords import ShardReader, path_exists

    folder, wanted = batch_input.shard_folder(spec), batch_input.shard_settings(spec)
    write = request["write"]
    hint = "" if write else batch_input.PREPARE_HINT
    try:
        reader = ShardReader.open(folder, wanted, spec.config.max_epochs, hint)
        if write:
            reader.verify(progress)
    except ShardError as error:
        if not write:
            raise
        # Without a header there are no shards yet, so no note is needed.
        if path_exists(join_path(folder, HEADER_NAME)):
            progress(f"{error}; writing new shards", None, None)
        _write_run_shards(spec, folder, request, progress)


def _write_run_shards(
    spec: TrialSpec, folder: str, request: dict[str, Any], progress: Progress
) -> None:
    """Draws evaluation lists and all epochs of one run and writes them as shards."""
    from reference_model.data.prepare import load_split
    from reference_model.shards.tfrecords import ShardWriter

    config, engine = spec.config, batch_input.make_sampling_engine(spec)
    engine.prepare_sampling()
    engine.load_for_sampling(load_split(dataset_spec(config.track), config.data_dir), spec.seed)
    writer = ShardWriter(folder, batch_input.shard_settings(spec))
    writer.write_lists(engine.evaluation_lists())
    for epoch in range(1, config.max_epochs + 1):
        writer.write_epoch(epoch, engine.epoch_batches(epoch))
        progress(f"writing shards of run {spec.run}", epoch, config.max_epochs)
    # The header is written last: a folder without a header is ignored.
    writer.finish(config.max_epochs, request["dataset_name"], request["min_ratings"])


if __name__ == "__main__":
    sys.exit(tensorflow_process.child_main("harness.inputs.write_shards", ensure_shards))
