"""The untimed outputs of a run besides its timed records.

These are the TensorFlow profile, the TensorBoard scalars, the data digests and the
checkpoint. None of them may change the outcome of a run: if one fails, its traceback goes to
the console log, and the user gets a note.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Sequence

from compliance.logs.epoch_times import epoch_variation
from harness.base.error_text import describe_exception
from harness.base.machine_load import LoadMeter
from harness.config.trial_spec import TrialSpec
from harness.logs import data_digests, provenance
from harness.processes.parent_pipe import ParentPipe
from harness.results import checkpoints
from harness.trial import profile_summary, tensorboard
from reference_model.events import EventSink


def start_profile(spec: TrialSpec, parent: ParentPipe, runtime: str) -> None:
    """Starts the profiler of the runtime if `--profile_dir` is given."""
    _control_profiler(spec, parent, runtime, is_start=True)


def stop_profile(spec: TrialSpec, parent: ParentPipe, runtime: str) -> None:
    """Stops the profiler and writes `<profile_dir>/run_<run>` if `--profile_dir` is given.

    The first run of this process's set is summed up for the user.
    """
    if not _control_profiler(spec, parent, runtime, is_start=False):
        return
    folder = _profile_folder(spec)
    parent.send("info", text=f"wrote the profile {folder}")
    if spec.trial_index:
        return
    try:
        rows = profile_summary.summarize(folder, runtime)
    except Exception as error:  # the profile is written in any case
        traceback.print_exc()
        rows = [f"the profile cannot be summed up: {describe_exception(error)}"]
    parent.send("text", text="\n".join(rows))


def _profile_folder(spec: TrialSpec) -> Path:
    """Returns the folder of the run's profile."""
    return Path(spec.config.profile_dir or "", f"run_{spec.run}")


def _control_profiler(
    spec: TrialSpec, parent: ParentPipe, runtime: str, is_start: bool
) -> bool:
    """Starts or stops the profiler, which runs only on the worker that writes the log.

    Returns:
      Whether it was started or stopped.
    """
    if spec.is_silent or not spec.config.profile_dir:
        return False
    try:
        if runtime == "pjrt":
            import jax

            start, stop = jax.profiler.start_trace, jax.profiler.stop_trace
        else:
            import tensorflow as tf

            start, stop = tf.profiler.experimental.start, tf.profiler.experimental.stop
        if is_start:
            start(str(_profile_folder(spec)))
        else:
            stop()
        return True
    except Exception as error:  # the run continues; it is unscored in any case
        traceback.print_exc()
        parent.send("note", text=f"no profile: {describe_exception(error)}")
        return False


def write_scalars(
    spec: TrialSpec, parent: ParentPipe, epochs: Sequence[tensorboard.EpochScalars]
) -> None:
    """Writes the scalars of all epochs for TensorBoard if `--tensorboard_dir` is given.

    Call it when the log is in its final place.

    Args:
      spec: The trial.
      parent: Receives a note if the scalars cannot be written.
      epochs: One entry per evaluated epoch.
    """
    config = spec.config
    if spec.is_silent or not config.tensorboard_dir or not epochs:
        return
    folder = Path(config.tensorboard_dir, config.benchmark, Path(spec.attempt_log).stem)
    try:
        settings = {"seed": spec.seed, **provenance.logged_configuration(config)}
        tensorboard.write(folder, epochs, config.track.evaluation.top_k, settings)
        parent.send("info", text=f"wrote the scalars {folder}")
    except Exception as error:  # the file system or TensorFlow may raise anything
        traceback.print_exc()
        parent.send("note", text=f"no TensorBoard scalars: {describe_exception(error)}")


def log_noise(
    parent: ParentPipe, sink: EventSink, load: LoadMeter, epoch_seconds: Sequence[float]
) -> None:
    """Logs the load of the machine during the run, and how much the epochs' seconds vary.

    Args:
      parent: Receives a note if this fails.
      sink: The run's log.
      load: Has measured since run_start.
      epoch_seconds: Seconds of training and evaluation of each epoch.
    """
    found = epoch_variation(epoch_seconds)
    names = ("epochs", "range_share", "excess_share")
    values = (None,) * 3 if found is None else (
        found.epochs, round(found.range, 4), round(found.excess, 4))
    try:
        sink.point("machine_load", load.measure().as_json(), when="after_run")
        sink.point("epoch_variation", dict(zip(names, values)))
    except Exception as error:  # the run has ended; it is valid without these records
        traceback.print_exc()
        parent.send("note", text=f"could not record the load: {describe_exception(error)}")


def log_data_digests(
    spec: TrialSpec, parent: ParentPipe, sink: EventSink, engine: Any, keep_checkpoint: bool
) -> None:
    """Logs the digests of the data that the engine drew, and saves the final weights if asked.

    Call it for a run that is a result, after its clock has stopped.

    Args:
      spec: The trial.
      parent: Receives a note if this fails.
      sink: The run's log.
      engine: The run's engine, which may be closed.
      keep_checkpoint: Whether the weights are saved.
    """
    digests: dict[str, str] = {}
    try:
        digests = data_digests.digest_engine_data(engine)
        if digests:
            sink.point("data_digests", digests)
        if keep_checkpoint:
            _save_checkpoint(spec, parent, sink, engine, digests.get("evaluation_lists"))
    except Exception as error:  # a vendor's engine may raise anything; its run is still valid
        traceback.print_exc()
        parent.send("note", text=f"could not record data digests: {describe_exception(error)}")


def _save_checkpoint(
    spec: TrialSpec, parent: ParentPipe, sink: EventSink, engine: Any, lists_digest: str | None
) -> None:
    """Saves the weights beside the attempts and logs the digest of the file."""
    if not callable(getattr(engine, "get_weights", None)):
        parent.send("note", text="no checkpoint: the engine has no get_weights")
        return
    path = checkpoints.checkpoint_path(Path(spec.result_log))
    file_digest = checkpoints.save(path, engine.get_weights(), lists_digest)
    sink.point("checkpoint", file_digest, bytes=path.stat().st_size)
