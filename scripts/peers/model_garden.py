"""Measures the NCF of TensorFlow's model garden: reads a job, prints one JSON line.

It runs `official.recommendation.ncf_keras_main` as installed from the package index, in its own
environment. It measures the custom training loop, the producer of negatives (a thread and a
pool of processes, which are part of its time) and the evaluation. The program is only observed
from outside: the times come from callbacks and log records. The only change is that the
autotune of tf.data is disabled, because an iterator with autotune may hang for seconds at its
end. The attributes that are read or replaced are those of the version pinned in
`environments.py`.

`--prepare FOLDER` creates the model garden's cache of the ratings in FOLDER (untimed).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import types
from typing import Any

import numpy as np

from reference_model.base.metrics import hit_rate_at, ranks
from reference_model.data.split import Split
from reference_model.sampling.evaluation_lists import EvaluationLists
from scripts.peers.jobs import Job
from scripts.peers.measure import WARM_UP_STEPS, Rate, answer_job, memory_use

DATASET = "ml-1m"
# The producer keeps this many epochs ready. It therefore produces one epoch while another is
# trained, except during the last epochs.
_EPOCHS_AHEAD = 3
_DATA_TIMEOUT_S = 240.0


class MeasurementDone(Exception):
    """Raised to end the model garden's training loop when the measurement is complete."""


def import_model_garden():
    """Imports (ncf_keras_main, ncf_common, ncf_input_pipeline) of the model garden."""
    import tensorflow as tf

    # TensorFlow no longer has estimators. The module that imports them uses them only in
    # functions that are never called here, so an empty module is sufficient.
    stand_in = types.ModuleType("tensorflow.estimator")
    sys.modules[stand_in.__name__] = tf.estimator = stand_in
    from official.recommendation import ncf_common, ncf_input_pipeline, ncf_keras_main

    return ncf_keras_main, ncf_common, ncf_input_pipeline


def garden_flags(job: Job) -> list[str]:
    """Builds its command line: the job's sizes and the MLPerf flags of the garden's README."""
    return [
        "ncf_keras_main",
        f"--data_dir={job.garden_dir}",
        f"--dataset={DATASET}",
        "--download_if_missing=false",
        "--keras_use_ctl",
        # Masks repeated candidates, as MLPerf and this project do.
        "--ml_perf",
        "--distribution_strategy=off",
        "--num_gpus=0",
        f"--train_epochs={requested_epochs(job)}",
        f"--batch_size={job.batch_size}",
        f"--eval_batch_size={job.eval_batch_size}",
        f"--num_factors={job.mf_dim}",
        f"--layers={','.join(map(str, job.mlp_layers))}",
        f"--num_neg={job.train_negatives}",
        f"--learning_rate={job.learning_rate}",
        f"--beta1={job.beta1}",
        f"--beta2={job.beta2}",
        f"--epsilon={job.epsilon}",
        *job.garden_flags,
    ]


def requested_epochs(job: Job) -> int:
    """Returns more epochs than are trained, so that the producer works until the end."""
    return job.max_epochs if job.goal == "target" else 1 + job.garden_epochs + _EPOCHS_AHEAD


class GardenObserver:
    """Measures a run of the model garden from outside, and ends it when all is measured.

    Attributes:
      job: The job of the measurement.
      producer: The model garden's producer of batches; None before it starts.
      data_start, data_end: Start of the producer, and completion of the evaluation lists.
      step_seconds: Duration of each step of the current epoch.
      first_epoch_step_seconds: Duration of each step of the first epoch.
      train: Rate of training examples in steady state.
      evaluation: Rate of scored pairs, without the first evaluation.
      epoch_seconds: Training time of each epoch.
      eval_seconds: Duration of each evaluation.
      hr: Hit rate of the last evaluation, as logged by the model garden.
    """

    def __init__(self, job: Job):
        self.job = job
        self.producer: Any = None
        self.data_start = self.data_end = 0.0
        self.step_seconds: list[float] = []
        self.first_epoch_step_seconds: list[float] = []
        self.train = Rate()
        self.evaluation = Rate()
        self.epoch_seconds: list[float] = []
        self.eval_seconds: list[float] = []
        self.hr = 0.0
        # Start of the current step or evaluation, of the first step after the warm-up, and of
        # the epoch.
        self._interval_start = self._warm_start = self._epoch_start = 0.0

    # -- data ---------------------------------------------------------------

    def attach_producer(self, producer: Any) -> None:
        """Records when the evaluation lists are complete; call it before the producer starts."""
        self.producer, self.data_start = producer, time.perf_counter()
        construct = producer._construct_eval_epoch

        def construct_and_note() -> None:
            construct()
            self.data_end = time.perf_counter()

        producer._construct_eval_epoch = construct_and_note

    def wait_for_data(self) -> None:
        """Waits for the evaluation lists and, if rates are measured, until the producer is idle.

        In steady state, the producer then produces one epoch while another is trained.

        Raises:
          RuntimeError: The producer failed or takes too long.
        """
        train = self.producer._train_dataset
        deadline = time.perf_counter() + _DATA_TIMEOUT_S
        while not self.data_end or not (self.job.goal == "target" or train.buffer_reached()):
            if self.producer._fatal_exception or time.perf_counter() > deadline:
                raise RuntimeError(f"no data: {self.producer._fatal_exception}")
            time.sleep(0.05)

    def check_data(self) -> None:
        """Raises RuntimeError if the model garden does not train on the job's split."""
        producer, job = self.producer, self.job
        # The model garden's user and item numbers must be those in the file written for it.
        same_ids = [
            original == own
            for id_map in (producer.user_map, producer.item_map)
            for original, own in id_map.items()
        ]
        split = Split(
            job.num_users,
            job.num_items,
            producer._train_pos_users,
            producer._train_pos_items,
            producer._eval_pos_items,
        )
        if not all(same_ids) or split.digest != job.digest:
            raise RuntimeError(f"its split has digest {split.digest}, not {job.digest}")

    # -- training loop --------------------------------------------------------

    def on_epoch_begin(self) -> None:
        """Records the start of a training epoch."""
        self.step_seconds, self._epoch_start = [], time.perf_counter()

    def on_step_begin(self) -> None:
        """Records the start of a training step."""
        self._interval_start = time.perf_counter()
        if len(self.step_seconds) == WARM_UP_STEPS:
            self._warm_start = self._interval_start

    def on_step_end(self) -> None:
        """Records the end of a training step."""
        self.step_seconds.append(time.perf_counter() - self._interval_start)

    def on_epoch_trained(self) -> None:
        """Records the end of a training epoch and the start of its evaluation.

        Raises:
          MeasurementDone: Evaluation is not measured, and all epochs are trained.
        """
        now, job = time.perf_counter(), self.job
        self.epoch_seconds.append(now - self._epoch_start)
        examples = job.num_positives * (1 + job.train_negatives)
        if len(self.epoch_seconds) > 1:
            self.train.add(examples, self.epoch_seconds[-1])
        else:
            self.first_epoch_step_seconds = self.step_seconds
            # If only one epoch is trained, its steps after the warm-up are measured.
            if not job.garden_epochs and job.goal == "train":
                warm_up_examples = WARM_UP_STEPS * job.batch_size
                self.train.add(examples - warm_up_examples, now - self._warm_start)
        if not job.evaluate and len(self.epoch_seconds) > job.garden_epochs:
            raise MeasurementDone
        self._interval_start = now

    def on_evaluated(self, hr: float) -> None:
        """Records the end of the evaluation after an epoch.

        Raises:
          MeasurementDone: The target or the last epoch was reached.
        """
        self.eval_seconds.append(time.perf_counter() - self._interval_start)
        self.hr = hr
        job, epochs = self.job, len(self.eval_seconds)
        if epochs > 1:
            pairs = job.num_users * (job.eval_negatives + 1)
            self.evaluation.add(pairs, self.eval_seconds[-1])
        if job.goal == "target" and (hr >= job.target or epochs == job.max_epochs):
            raise MeasurementDone
        if job.goal == "train" and epochs > job.garden_epochs:
            raise MeasurementDone

    def seconds_to_target(self) -> float | None:
        """Computes the time to the target without compilation.

        It is the time from the start of the producer until the evaluation lists are complete,
        plus the time of the training loop. The first step and the first evaluation include
        compilation; they are replaced by the median of the later ones.

        Returns:
          Seconds; None if the target was not reached.
        """
        if self.hr < self.job.target:
            return None
        loop = sum(self.epoch_seconds) + sum(self.eval_seconds)
        steps = self.first_epoch_step_seconds
        if len(steps) > 1:
            loop -= steps[0] - statistics.median(steps[1:])
        if len(self.eval_seconds) > 1:
            loop -= self.eval_seconds[0] - statistics.median(self.eval_seconds[1:])
        return self.data_end - self.data_start + loop


def observe_logging(module: Any, observer: GardenObserver) -> None:
    """Replaces a module's logging to detect when an epoch has been trained or evaluated."""
    original = module.logging

    def info(message: str, *args: Any, **kwargs: Any) -> None:
        if message.startswith("Done training epoch"):
            # Reading the loss waits for all operations that are still running.
            float(args[1])
            observer.on_epoch_trained()
        elif message.startswith("Done eval epoch"):
            observer.on_evaluated(float(args[1]))  # HR
        original.info(message, *args, **kwargs)

    module.logging = types.SimpleNamespace(
        info=info, warning=original.warning, error=original.error
    )


def install_observer(
    observer: GardenObserver, main: Any, common: Any, pipeline: Any
) -> dict[str, Any]:
    """Replaces functions of the model garden by functions that call the observer.

    Args:
      observer: The observer to call.
      main, common, pipeline: The modules from `import_model_garden`.

    Returns:
      A dict that contains the model under "model" after training has started.
    """
    import tensorflow as tf
    import tf_keras

    holder: dict[str, Any] = {}
    get_inputs, create_data = common.get_inputs, pipeline.create_ncf_input_data
    run_training = main.run_ncf_custom_training

    def get_observed_inputs(params):
        inputs = get_inputs(params)
        observer.attach_producer(inputs[-1])
        return inputs

    def create_data_without_autotune(*args, **kwargs):
        train, evaluation, *steps = create_data(*args, **kwargs)
        options = tf.data.Options()
        options.autotune.enabled = False
        return train.with_options(options), evaluation.with_options(options), *steps

    class ObserverCallback(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            observer.check_data()
            observer.wait_for_data()

        def on_epoch_begin(self, epoch, logs=None):
            observer.on_epoch_begin()

        def on_batch_begin(self, batch, logs=None):
            observer.on_step_begin()

        def on_batch_end(self, batch, logs=None):
            observer.on_step_end()

    def run_observed_training(params, strategy, model, optimizer, callbacks, *args, **kwargs):
        holder["model"] = model
        callbacks = [ObserverCallback(), *callbacks]
        return run_training(params, strategy, model, optimizer, callbacks, *args, **kwargs)

    common.get_inputs = get_observed_inputs
    pipeline.create_ncf_input_data = create_data_without_autotune
    main.run_ncf_custom_training = run_observed_training
    observe_logging(main, observer)
    return holder


def hit_rate_by_our_metric(model: Any, observer: GardenObserver) -> float:
    """Computes HR@K of the model garden's model and lists with this project's mask and ranking.

    Raises:
      RuntimeError: The lists or the mask differ from those of this project.
    """
    job = observer.job
    per_user = job.eval_negatives + 1
    ranks_by_batch = []
    for batch in observer.producer._eval_dataset._result_reuse:
        mask = batch["duplicate_mask"].reshape(-1, per_user)
        # A padding user has all candidates but one masked.
        is_real = mask.sum(axis=1) < per_user - 1
        features = {name: batch[name] for name in ("user_id", "item_id", "duplicate_mask")}
        features["valid_point_mask"] = features["train_labels"] = batch["duplicate_mask"]
        scores = np.asarray(model(features))[:, 1].reshape(-1, per_user)[is_real]
        items = batch["item_id"].reshape(-1, per_user)[is_real]
        lists = EvaluationLists.from_negatives(items[:, :-1], items[:, -1])
        # The two masks may keep different copies of a repeated candidate, but must mask the
        # same number of candidates.
        if not np.array_equal(lists.masked.sum(axis=1), mask[is_real].sum(axis=1)):
            raise RuntimeError("its mask of repeated candidates differs from this project's mask")
        ranks_by_batch.append(ranks(scores, lists.masked))
    user_ranks = np.concatenate(ranks_by_batch)
    if len(user_ranks) != job.num_users:
        raise RuntimeError(f"it evaluates {len(user_ranks)} users, not {job.num_users}")
    return hit_rate_at(user_ranks, job.top_k)


def measure(job: Job) -> dict[str, Any]:
    """Returns the measured values of one job."""
    main, common, pipeline = import_model_garden()
    from absl import flags, logging

    logging.set_verbosity(logging.INFO)
    common.define_ncf_flags()
    flags.FLAGS(garden_flags(job))
    observer = GardenObserver(job)
    holder = install_observer(observer, main, common, pipeline)
    try:
        main.run_ncf(None)
    except MeasurementDone:
        pass
    measured = {
        "train_examples_per_s": observer.train.per_second,
        "eval_pairs_per_s": observer.evaluation.per_second,
        "eval_scores_per_s": observer.evaluation.per_second,
        "hr": observer.hr if observer.eval_seconds else None,
        "epochs": len(observer.epoch_seconds),
        "epoch_seconds": observer.epoch_seconds,
        "eval_seconds": observer.eval_seconds,
        "first_step_seconds": observer.first_epoch_step_seconds[0],
        "data_seconds": observer.data_end - observer.data_start,
        "flags": list(job.garden_flags),
        **memory_use(),
    }
    if job.goal == "target":
        measured["seconds_to_target"] = observer.seconds_to_target()
        measured["hr_by_our_metric"] = hit_rate_by_our_metric(holder["model"], observer)
    return measured


def prepare(folder: str) -> None:
    """Makes the model garden read the ratings once, so that its cache exists in a measurement."""
    import_model_garden()
    from official.recommendation import data_preprocessing

    params = {
        "train_epochs": 1,
        "batch_size": 1000,
        "eval_batch_size": 1000,
        "batches_per_step": 1,
        "num_neg": 4,
        "stream_files": False,
    }
    data_preprocessing.instantiate_pipeline(DATASET, folder, params)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepare", metavar="FOLDER")
    folder_to_prepare = parser.parse_args().prepare
    prepare(folder_to_prepare) if folder_to_prepare else answer_job(measure)
