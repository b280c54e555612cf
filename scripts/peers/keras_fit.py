"""Measures plain Keras on this project's model: reads a job, prints one JSON line.

It calls `model.fit(jit_compile=True)` on batches that are already in memory. Nothing is
sampled, shuffled or padded while the clock runs, so the rate is an upper bound for a plain Keras
program. It uses the Adam of Keras without changes to the gradients: for the `IndexedSlices` of a
table, that Adam squares the slices of a repeated row separately. The result differs slightly
from the Adam of the other two peers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.devices import setup
from reference_model.base.metrics import hit_rate_at
from reference_model.data.split import Split
from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.evaluation_lists import EvaluationLists, draw_evaluation_lists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream
from scripts.peers.jobs import Job
from scripts.peers.measure import Rate, answer_job, memory_use
from scripts.peers.ours import engine_config, job_split

# Training steps per TensorFlow call, for large and for small batches: the fastest of 1, 10 and
# 100 in a test.
_STEPS_PER_CALL_LARGE, _STEPS_PER_CALL_SMALL = 10, 100
_LARGE_BATCH = 10_000  # batches above this size are large
_PREDICT_STEPS_PER_CALL = 10
_MAX_PASSES = 200


def make_training_data(split: Split, job: Job):
    """Samples one epoch; leaves out examples that do not fill a batch or a call.

    Returns:
      (A dataset of batches in memory, its number of steps, steps per TensorFlow call.)

    Raises:
      RuntimeError: The epoch does not fill a single batch.
    """
    sampler = make_sampler(split)
    epoch = build_epoch(split, sampler, job.train_negatives, job.batch_size, job.seed, 1)
    num_full_batches = epoch.examples // job.batch_size
    if not num_full_batches:
        raise RuntimeError(f"the batch {job.batch_size} is larger than the epoch")
    is_large = job.batch_size > _LARGE_BATCH
    most_per_call = _STEPS_PER_CALL_LARGE if is_large else _STEPS_PER_CALL_SMALL
    per_call = min(most_per_call, num_full_batches)
    steps = num_full_batches // per_call * per_call
    label = epoch.label[:steps, :, None].astype(np.float32)
    data = in_memory_dataset((epoch.user[:steps], epoch.item[:steps]), label)
    return data, steps, per_call


def in_memory_dataset(*arrays):
    """Creates a tf.data pipeline over batches in memory, without autotune, which may hang."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(arrays).prefetch(2).with_options(options)


def make_evaluation_data(split: Split, job: Job, lists: EvaluationLists):
    """Creates a dataset of (user, item) in batches of whole users; the last batch repeats users."""
    per_user = lists.items.shape[1]
    users_per_batch = max(1, job.eval_batch_size // per_user)
    num_batches = -(-split.num_users // users_per_batch)
    users = np.arange(num_batches * users_per_batch, dtype=np.int32) % split.num_users
    shape = (-1, users_per_batch * per_user)
    return in_memory_dataset(
        (np.repeat(users, per_user).reshape(shape), lists.items[users].reshape(shape))
    )


def ranks_of_last_column(scores: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Computes the rank, from 0, of the held-out item in the last column.

    As in `reference_model.base.metrics.ranks`, the held-out item loses ties.

    Args:
      scores: float32 [users, negatives + 1].
      masked: bool of the same shape; masked candidates are ignored.

    Returns:
      int [users].
    """
    return ((scores[:, :-1] >= scores[:, -1:]) & ~masked[:, :-1]).sum(axis=1)


def measure(job: Job) -> dict[str, Any]:
    """Measures whole passes over the epoch, until at least `job.seconds` of training."""
    setup.hide_accelerators()
    import keras

    from reference_model.model.neumf import build_neumf

    split = job_split(job)
    data, steps, per_call = make_training_data(split, job)
    model = build_neumf(engine_config(job), seed=job.seed)
    optimizer = keras.optimizers.Adam(job.learning_rate, job.beta1, job.beta2, job.epsilon)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def compile_for(steps_per_call: int) -> None:
        """Compiles the model for calls of `steps_per_call` steps."""
        model.compile(optimizer, loss, jit_compile=True, steps_per_execution=steps_per_call)

    compile_for(per_call)
    # The first call compiles and is not measured.
    model.fit(data.take(per_call), epochs=1, shuffle=False, verbose=0)
    train, passes = Rate(), 0
    while train.seconds < job.seconds and passes < _MAX_PASSES:
        train.time_call(
            lambda: model.fit(data, epochs=1, shuffle=False, verbose=0),
            lambda _: steps * job.batch_size,
        )
        passes += 1
    measured = {"train_examples_per_s": train.per_second, "epochs": passes}
    if job.evaluate:
        compile_for(_PREDICT_STEPS_PER_CALL)
        evaluation, hr = measure_evaluation(model, split, job)
        rate = evaluation.per_second
        measured |= {"eval_pairs_per_s": rate, "eval_scores_per_s": rate, "hr": hr}
    return {**measured, **memory_use()}


def measure_evaluation(model, split: Split, job: Job) -> tuple[Rate, float]:
    """Measures `predict` and the ranking, after one evaluation that is not measured.

    Returns:
      (The rate in pairs, HR.)
    """
    sampler = make_sampler(split)
    random_stream = stream(job.seed, STREAM_EVALUATION)
    lists = draw_evaluation_lists(split, job.eval_negatives, sampler, random_stream)
    data = make_evaluation_data(split, job, lists)
    num_users, per_user = lists.items.shape

    def evaluate() -> float:
        scores = model.predict(data, verbose=0).reshape(-1, per_user)[:num_users]
        return hit_rate_at(ranks_of_last_column(scores, lists.masked), job.top_k)

    evaluate()
    rate = Rate()
    for _ in range(2):
        hr = rate.time_call(evaluate, lambda _: num_users * per_user)
    return rate, hr


if __name__ == "__main__":
    answer_job(measure)
