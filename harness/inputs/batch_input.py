"""Selects the source of a run's batches, according to `--input`.

`generated`: the engine draws them. `shards`: `--prepare_only` wrote them as TFRecord shards,
for the seeds of the set and before any clock started; such a set is open division.
`timed_shards`: each run writes its own shards while its clock runs, reads them and removes
them.

The parent process reads the headers of local shards itself and starts a child process for
everything that needs TensorFlow, which the parent never imports.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.seeds import choose_trial_seed
from harness.config.run_config import BUILTIN_ENGINES, RunConfig
from harness.config.trial_spec import TrialSpec, engine_config, track_engine_settings
from harness.processes import tensorflow_process
from reference_model.base.progress import Progress
from reference_model.data.split_file import SplitHeader
from reference_model.events import EventSink, NullSink
from reference_model.shards.header import ShardSetSpec, join_path, load_header

if TYPE_CHECKING:
    from reference_model.engine import Engine

# The folder of all shards, under the data folder or its URL.
SHARDS_FOLDER = "shards"
# End of the message about missing or unusable shards.
PREPARE_HINT = (
    "; write them with --prepare_only and the same flags (track, engine, batch size, epochs, "
    "seed, runs)"
)
# Folders of timed shards: machine, process id of the parent, number of the run.
_TIMED_FOLDER_NAME = re.compile(r"timed-(.+)-(\d+)-\d+")


def negatives_drawn(config: RunConfig) -> str:
    """Returns the value of the log record `negatives_drawn`: when the negatives were drawn."""
    return "before_clock" if config.input == "shards" else "in_run"


def sampling_engine_name(engine: str) -> str:
    """Returns the engine that draws the epoch order and negatives for an engine's shards.

    Args:
      engine: The value of `--engine`.

    Returns:
      The engine itself if it is built in; "reference" for a vendor's engine.
    """
    return engine if engine in BUILTIN_ENGINES else "reference"


def shard_folder(spec: TrialSpec) -> str:
    """Returns the path or URL of the folder for the shards of a run."""
    place = join_path(spec.config.data_url or spec.config.data_dir, SHARDS_FOLDER)
    return join_path(place, shard_settings(spec).folder)


def shard_settings(spec: TrialSpec) -> ShardSetSpec:
    """Returns the settings for which the shards of a run must have been written."""
    config, fixed = spec.config, track_engine_settings(spec.config.track)
    return ShardSetSpec(
        track=config.track_name,
        order=sampling_engine_name(config.engine),
        seed=spec.seed,
        batch_size=config.batch_size,
        train_negatives=fixed["train_negatives"],
        eval_negatives=fixed["eval_negatives"],
        num_users=spec.num_users,
        num_items=spec.num_items,
        num_positives=spec.num_positives,
        split_digest=spec.split_digest,
    )


# -- in the parent ----------------------------------------------------------------


def prepare_shards(config: RunConfig, header: SplitHeader, progress: Progress) -> None:
    """Ensures, before the first trial, that the shards of all runs of the set exist.

    With `--prepare_only` they are verified, and written if they are missing or unusable.
    Stale timed shards are removed.

    Args:
      config: The settings of the set.
      header: Header of the prepared dataset.
      progress: Called with a description of the current step.

    Raises:
      DataError: Shards are missing, unusable, or cannot be written.
    """
    remove_stale_shards(config)
    if config.input != "shards":
        return
    specs = [
        TrialSpec(
            config=config, run=run, seed=choose_trial_seed(config.base_seed, run, set()),
            attempt_log="", result_log="", attempt_record={},
            num_users=header.num_users, num_items=header.num_items,
            num_positives=header.num_positives, split_digest=header.digest,
        )
        for run in range(config.num_runs)
    ]  # fmt: skip
    # Local headers are JSON files; only URLs and the shards themselves need TensorFlow.
    if not config.prepare_only and not config.data_url:
        for spec in specs:
            load_header(shard_folder(spec), shard_settings(spec), config.max_epochs, PREPARE_HINT)
        return
    request = {
        "specs": [spec.to_json() for spec in specs],
        "write": config.prepare_only,
        "dataset_name": header.name,
        "min_ratings": header.min_ratings,
    }
    tensorflow_process.run_in_child("harness.inputs.write_shards", request, progress)


def remove_stale_shards(config: RunConfig) -> None:
    """Removes timed shards left behind by a killed process of this machine."""
    if config.input != "timed_shards":
        return
    for folder in Path(config.data_dir, SHARDS_FOLDER).glob("timed-*"):
        match = _TIMED_FOLDER_NAME.fullmatch(folder.name)
        # Another machine may use the same folder; its process ids are not valid here.
        if (
            match
            and match[1] == platform.node()
            and not _is_other_running_process(int(match[2]))
        ):
            shutil.rmtree(folder, ignore_errors=True)


def _is_other_running_process(pid: int) -> bool:
    """Whether `pid` is a running process other than this one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
    except OSError:  # it exists and belongs to another user
        return True


# -- in a process with TensorFlow -------------------------------------------------


def make_sampling_engine(spec: TrialSpec) -> Any:
    """Makes an engine that draws on the CPU the batches for the run's shards.

    It never trains, so the run's precision does not matter.

    Returns:
      The engine of `sampling_engine_name`, not prepared yet.
    """
    from harness.config.engine_loader import load_engine_class

    engine_class = load_engine_class(sampling_engine_name(spec.config.engine))
    config = dataclasses.replace(engine_config(spec), precision="float32")
    return engine_class(config, NullSink(), "cpu")


def wrap_engine(engine: "Engine", spec: TrialSpec, sink: EventSink) -> "Engine":
    """Makes an engine train on the batches that `--input` selects.

    Called before the clock starts. Only the header of prepared shards is read; the dataset
    is not.

    Args:
      engine: The run's engine.
      spec: The trial.
      sink: Receives the wrapped engine's events.

    Returns:
      The engine itself if it draws its own batches, else a wrapper around it.

    Raises:
      ValueError: Shards are missing or unusable; one line for the user.
    """
    if spec.config.input == "generated":
        return engine
    from reference_model.shards.batch_sources import PreparedShardSource, TimedShardSource
    from reference_model.shards.precomputed_engine import PrecomputedBatchEngine
    from reference_model.shards.tfrecords import ShardReader

    epochs, wanted = spec.config.max_epochs, shard_settings(spec)
    if spec.config.input == "shards":
        reader = ShardReader.open(shard_folder(spec), wanted, epochs, PREPARE_HINT)
        source: Any = PreparedShardSource(reader, epochs)
    else:
        # Named after the parent, which removes the folder if this process is killed.
        name = f"timed-{platform.node()}-{os.getppid()}-{spec.run}"
        folder = str(Path(spec.config.data_dir, SHARDS_FOLDER, name))
        source = TimedShardSource(folder, make_sampling_engine(spec), wanted, epochs, spec.seed)
    return PrecomputedBatchEngine(engine, source, engine_config(spec), sink)
