"""TensorFlow's model garden NCF, measured: a job in, one JSON line out.

Runs `official.recommendation.ncf_keras_main` as installed from the package index, in
that package's own environment: its custom training loop, its producer of negatives
(a thread and a pool of processes, part of its time), its evaluation. Only watched
from outside: callbacks and log records give the times, and tf.data's autotune is
turned off, since with it an iterator may hang for seconds at its end. The attributes
that are read or replaced are those of the version that `environments.py` pins.

`--prepare FOLDER` makes its cache of the ratings in FOLDER, which is untimed.
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
from scripts.peers.measure import WARM_UP_STEPS, Rate, answer, memory

DATASET = "ml-1m"
# It keeps this many epochs ready; an epoch trained is an epoch made, until the last.
_AHEAD = 3
_DATA_TIMEOUT_S = 240.0


class Enough(Exception):
    """Everything is measured; the training loop may end here."""


def import_garden():
    """(ncf_keras_main, ncf_common, ncf_input_pipeline) of the model garden."""
    import tensorflow as tf

    # TensorFlow has no estimators any more. The module that imports them only names
    # them in functions that this path never calls.
    stand_in = types.ModuleType("tensorflow.estimator")
    sys.modules[stand_in.__name__] = tf.estimator = stand_in
    from official.recommendation import ncf_common, ncf_input_pipeline, ncf_keras_main

    return ncf_keras_main, ncf_common, ncf_input_pipeline


def flags_of(job: Job) -> list[str]:
    """Its command line: the job's sizes, and what its README calls the MLPerf setting."""
    return [
        "ncf_keras_main",
        f"--data_dir={job.garden_dir}",
        f"--dataset={DATASET}",
        "--download_if_missing=false",
        "--keras_use_ctl",
        # Masks repeated candidates, as MLPerf does and this project.
        "--ml_perf",
        "--distribution_strategy=off",
        "--num_gpus=0",
        f"--train_epochs={epochs_asked_for(job)}",
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


def epochs_asked_for(job: Job) -> int:
    """More than are trained, so that negatives are made to the end as in the middle."""
    return job.max_epochs if job.goal == "target" else 1 + job.garden_epochs + _AHEAD


class Watch:
    """What is seen of a run from outside, and when to end it."""

    def __init__(self, job: Job):
        self.job = job
        self.producer: Any = None
        self.data_start = self.data_end = 0.0
        self.steps: list[float] = []  # seconds of each step of this epoch
        self.first_steps: list[float] = []
        self.train = Rate()  # steady state only
        self.evaluation = Rate()
        self.epoch_seconds: list[float] = []  # training, each epoch
        self.eval_seconds: list[float] = []
        self.hr = 0.0
        self._at = self._warm_at = self._epoch_start = 0.0

    # -- its data -----------------------------------------------------------

    def take_producer(self, producer: Any) -> None:
        """Its thread is about to start. Notes when the evaluation lists are there."""
        self.producer, self.data_start = producer, time.perf_counter()
        construct = producer._construct_eval_epoch

        def construct_and_note() -> None:
            construct()
            self.data_end = time.perf_counter()

        producer._construct_eval_epoch = construct_and_note

    def wait_for_data(self) -> None:
        """Until an epoch and the lists are made; for rates, until it has nothing to do.

        In steady state it then makes one epoch while one is trained.
        """
        train = self.producer._train_dataset
        deadline = time.perf_counter() + _DATA_TIMEOUT_S
        while not self.data_end or not (self.job.goal == "target" or train.buffer_reached()):
            if self.producer._fatal_exception or time.perf_counter() > deadline:
                raise RuntimeError(f"no data: {self.producer._fatal_exception}")
            time.sleep(0.05)

    def check_data(self) -> None:
        """Raises where it does not train on the job's split."""
        found, job = self.producer, self.job
        same = [k == v for ids in (found.user_map, found.item_map) for k, v in ids.items()]
        split = Split(
            job.num_users,
            job.num_items,
            found._train_pos_users,
            found._train_pos_items,
            found._eval_pos_items,
        )
        if not all(same) or split.digest != job.digest:
            raise RuntimeError(f"its split has digest {split.digest}, not {job.digest}")

    # -- its loop -------------------------------------------------------------

    def epoch_begins(self) -> None:
        self.steps, self._epoch_start = [], time.perf_counter()

    def step_begins(self) -> None:
        self._at = time.perf_counter()
        if len(self.steps) == WARM_UP_STEPS:
            self._warm_at = self._at

    def step_ends(self) -> None:
        self.steps.append(time.perf_counter() - self._at)

    def epoch_trained(self) -> None:
        now, job = time.perf_counter(), self.job
        self.epoch_seconds.append(now - self._epoch_start)
        examples = job.num_positives * (1 + job.train_negatives)
        if len(self.epoch_seconds) > 1:
            self.train.add(examples, self.epoch_seconds[-1])
        else:
            self.first_steps = self.steps
            if not job.garden_epochs and job.goal == "train":
                warm = WARM_UP_STEPS * job.batch_size
                self.train.add(examples - warm, now - self._warm_at)
        if not job.evaluate and len(self.epoch_seconds) > job.garden_epochs:
            raise Enough
        self._at = now

    def evaluated(self, hr: float) -> None:
        self.eval_seconds.append(time.perf_counter() - self._at)
        self.hr = hr
        job, epochs = self.job, len(self.eval_seconds)
        if epochs > 1:
            pairs = job.num_users * (job.eval_negatives + 1)
            self.evaluation.add(pairs, self.eval_seconds[-1])
        if job.goal == "target" and (hr >= job.target or epochs == job.max_epochs):
            raise Enough
        if job.goal == "train" and epochs > job.garden_epochs:
            raise Enough

    def seconds_to_target(self) -> float | None:
        """As if nothing had to be compiled: its first step and evaluation count as later ones.

        From the start of its producer to the end of its first lists and batches, and
        then its loop.
        """
        if self.hr < self.job.target:
            return None
        loop = sum(self.epoch_seconds) + sum(self.eval_seconds)
        if len(self.first_steps) > 1:
            loop -= self.first_steps[0] - statistics.median(self.first_steps[1:])
        if len(self.eval_seconds) > 1:
            loop -= self.eval_seconds[0] - statistics.median(self.eval_seconds[1:])
        return self.data_end - self.data_start + loop


def watch_logging(module: Any, watch: Watch) -> None:
    """The module says in its log when an epoch is trained and evaluated, and the HR."""
    original = module.logging

    def info(message: str, *args: Any, **kwargs: Any) -> None:
        if message.startswith("Done training epoch"):
            float(args[1])  # the loss; whatever is under way ends here
            watch.epoch_trained()
        elif message.startswith("Done eval epoch"):
            watch.evaluated(float(args[1]))
        original.info(message, *args, **kwargs)

    module.logging = types.SimpleNamespace(
        info=info, warning=original.warning, error=original.error
    )


def install(watch: Watch, main: Any, common: Any, pipeline: Any) -> dict[str, Any]:
    """Hangs the watch into the modules; returns where the model will be found."""
    import tensorflow as tf
    import tf_keras

    found: dict[str, Any] = {}
    get_inputs, create = common.get_inputs, pipeline.create_ncf_input_data
    run = main.run_ncf_custom_training

    def watched_inputs(params):
        inputs = get_inputs(params)
        watch.take_producer(inputs[-1])
        return inputs

    def without_autotune(*args, **kwargs):
        train, evaluation, *steps = create(*args, **kwargs)
        options = tf.data.Options()
        options.autotune.enabled = False
        return train.with_options(options), evaluation.with_options(options), *steps

    class Steps(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            watch.check_data()
            watch.wait_for_data()

        def on_epoch_begin(self, epoch, logs=None):
            watch.epoch_begins()

        def on_batch_begin(self, batch, logs=None):
            watch.step_begins()

        def on_batch_end(self, batch, logs=None):
            watch.step_ends()

    def watched_run(params, strategy, model, optimizer, callbacks, *args, **kwargs):
        found["model"] = model
        return run(params, strategy, model, optimizer, [Steps(), *callbacks], *args, **kwargs)

    common.get_inputs, pipeline.create_ncf_input_data = watched_inputs, without_autotune
    main.run_ncf_custom_training = watched_run
    watch_logging(main, watch)
    return found


def own_metric(model: Any, watch: Watch) -> float:
    """HR@K of its model over its own lists, by this project's mask and ranking."""
    job = watch.job
    per_user = job.eval_negatives + 1
    found = []
    for batch in watch.producer._eval_dataset._result_reuse:
        mask = batch["duplicate_mask"].reshape(-1, per_user)
        real = mask.sum(axis=1) < per_user - 1
        features = {name: batch[name] for name in ("user_id", "item_id", "duplicate_mask")}
        features["valid_point_mask"] = features["train_labels"] = batch["duplicate_mask"]
        scores = np.asarray(model(features))[:, 1].reshape(-1, per_user)[real]
        items = batch["item_id"].reshape(-1, per_user)[real]
        lists = EvaluationLists.of(items[:, :-1], items[:, -1])
        # Which of a candidate's repeats stays may differ, how many are masked may not.
        if not np.array_equal(lists.masked.sum(axis=1), mask[real].sum(axis=1)):
            raise RuntimeError("its mask of repeated candidates is not this project's")
        found.append(ranks(scores, lists.masked))
    rank = np.concatenate(found)
    if len(rank) != job.num_users:
        raise RuntimeError(f"it evaluates {len(rank)} users, not {job.num_users}")
    return hit_rate_at(rank, job.top_k)


def measure(job: Job) -> dict[str, Any]:
    """The figures of one job."""
    main, common, pipeline = import_garden()
    from absl import flags, logging

    logging.set_verbosity(logging.INFO)
    common.define_ncf_flags()
    flags.FLAGS(flags_of(job))
    watch = Watch(job)
    found = install(watch, main, common, pipeline)
    try:
        main.run_ncf(None)
    except Enough:
        pass
    figures = {
        "train_examples_per_s": watch.train.per_second,
        "eval_pairs_per_s": watch.evaluation.per_second,
        "eval_scores_per_s": watch.evaluation.per_second,
        "hr": watch.hr if watch.eval_seconds else None,
        "epochs": len(watch.epoch_seconds),
        "epoch_seconds": watch.epoch_seconds,
        "eval_seconds": watch.eval_seconds,
        "first_step_seconds": watch.first_steps[0],
        "data_seconds": watch.data_end - watch.data_start,
        "flags": list(job.garden_flags),
        **memory(),
    }
    if job.goal == "target":
        figures["seconds_to_target"] = watch.seconds_to_target()
        figures["hr_by_our_metric"] = own_metric(found["model"], watch)
    return figures


def prepare(folder: str) -> None:
    """Has it read the ratings once, so that its cache is there when it is measured."""
    import_garden()
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
    chosen = parser.parse_args().prepare
    prepare(chosen) if chosen else answer(measure)
