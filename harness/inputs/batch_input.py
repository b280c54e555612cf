"""Where a run's batches come from: `--input`.

`generated`: the engine draws them. `shards`: they lie ready as TFRecord shards, which
`--prepare_only` wrote for the seeds of the set before any clock ran, so that the set is
open division. `timed_shards`: each run writes its own under its clock, reads them and
removes them.

The parent reads the headers of local shards by itself and has a child process do what
needs TensorFlow; it imports none.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.seeds import trial_seed
from harness.config.run_config import BUILTIN_ENGINES, RunConfig
from harness.config.trial_spec import TrialSpec, engine_config, fixed_settings
from harness.processes import tensorflow_process
from reference_model.base.progress import Progress
from reference_model.data.split_file import CacheHeader
from reference_model.events import EventSink, NullSink
from reference_model.shards.header import MadeFor, join, open_header

if TYPE_CHECKING:
    from reference_model.engine import Engine

FOLDER = "shards"
REMEDY = (
    "; write them with --prepare_only and the same flags (track, engine, batch size, epochs, "
    "seed, runs)"
)
_TIMED = re.compile(r"timed-(.+)-(\d+)-\d+")


def negatives_drawn(config: RunConfig) -> str:
    """What the log says of when negatives were drawn."""
    return "before_clock" if config.input == "shards" else "in_run"


def order_of(engine: str) -> str:
    """Whose order and negatives shards for an engine have: its own if it is a built-in one."""
    return engine if engine in BUILTIN_ENGINES else "reference"


def folder_of(spec: TrialSpec) -> str:
    """Where the shards of a run lie, or are to lie."""
    place = join(spec.config.data_url or spec.config.data_dir, FOLDER)
    return join(place, made_for(spec).folder)


def made_for(spec: TrialSpec) -> MadeFor:
    """What the shards of a run must have been made for."""
    config, fixed = spec.config, fixed_settings(spec.config.track)
    return MadeFor(
        track=config.track_name,
        order=order_of(config.engine),
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


def prepare(config: RunConfig, header: CacheHeader, progress: Progress) -> None:
    """Makes sure, before anything starts, that the shards of all runs of the set are there.

    With `--prepare_only` they are verified, and written where they are not. Raises DataError.
    """
    sweep(config)
    if config.input != "shards":
        return
    specs = [
        TrialSpec(
            config=config, run=run, seed=trial_seed(config.base_seed, run, set()), attempt="",
            result="", link={}, num_users=header.num_users, num_items=header.num_items,
            num_positives=header.num_positives, split_digest=header.digest,
        )
        for run in range(config.num_runs)
    ]  # fmt: skip
    if not config.prepare_only and not config.data_url:
        for spec in specs:
            open_header(folder_of(spec), made_for(spec), config.max_epochs, REMEDY)
        return
    order = {
        "specs": [spec.to_json() for spec in specs],
        "write": config.prepare_only,
        "dataset_name": header.name,
        "min_ratings": header.min_ratings,
    }
    tensorflow_process.ask("harness.inputs.write_shards", order, progress)


def sweep(config: RunConfig) -> None:
    """Removes the timed shards of runs of this machine whose process did not live to do it."""
    if config.input != "timed_shards":
        return
    for folder in Path(config.data_dir, FOLDER).glob("timed-*"):
        found = _TIMED.fullmatch(folder.name)
        if found and found[1] == platform.node() and not _lives_elsewhere(int(found[2])):
            shutil.rmtree(folder, ignore_errors=True)


def _lives_elsewhere(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
    except OSError:
        return True


# -- in a process with TensorFlow -------------------------------------------------


def make_drawer(spec: TrialSpec) -> Any:
    """An engine that draws on the CPU what the run's engine would draw, and never trains."""
    from harness.config.engine_loader import load_engine_class

    engine = load_engine_class(order_of(spec.config.engine))
    config = dataclasses.replace(engine_config(spec), precision="float32")
    return engine(config, NullSink(), "cpu")


def attach(engine: "Engine", spec: TrialSpec, sink: EventSink) -> "Engine":
    """The engine on the batches that `--input` names. Raises ValueError with one line.

    Of prepared shards it reads the header alone: the dataset is not touched.
    """
    if spec.config.input == "generated":
        return engine
    from reference_model.shards.precomputed_engine import GivenEngine
    from reference_model.shards.tfrecords import PreparedShards, ShardReader, TimedShards

    epochs, wanted = spec.config.max_epochs, made_for(spec)
    if spec.config.input == "shards":
        reader = ShardReader.open(folder_of(spec), wanted, epochs, REMEDY)
        source: Any = PreparedShards(reader, epochs)
    else:
        name = f"timed-{platform.node()}-{os.getppid()}-{spec.run}"
        folder = str(Path(spec.config.data_dir, FOLDER, name))
        source = TimedShards(folder, make_drawer(spec), wanted, epochs, spec.seed)
    return GivenEngine(engine, source, engine_config(spec), sink)
