"""Plain Keras on this project's model, measured: a job in, one JSON line out.

`model.fit(jit_compile=True)` over batches that lie ready in memory: nothing is
sampled, shuffled or padded while the clock runs, so this is a ceiling for what a
plain Keras program reaches. Its Adam is Keras's own on the gradients as they come:
for a table's `IndexedSlices` it squares a repeated row's slices one by one, which is
not quite the Adam of the other two.
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
from scripts.peers.measure import Rate, answer, memory
from scripts.peers.ours import engine_config, job_split

# Steps handed to TensorFlow in one call; the fastest of 1, 10 and 100, large batch
# and small, when they were tried.
_STEPS_PER_CALL = {True: 10, False: 100}
_PREDICT_STEPS_PER_CALL = 10
_MOST_PASSES = 200


def training_data(split: Split, job: Job):
    """(dataset of ready batches, its steps, steps per call of TensorFlow).

    One epoch, without what does not fill a batch or a call.
    """
    sampler = make_sampler(split)
    epoch = build_epoch(split, sampler, job.train_negatives, job.batch_size, job.seed, 1)
    full = epoch.examples // job.batch_size
    if not full:
        raise RuntimeError(f"the batch {job.batch_size} is larger than the epoch")
    per_call = min(_STEPS_PER_CALL[job.batch_size > 10_000], full)
    steps = full // per_call * per_call
    label = epoch.label[:steps, :, None].astype(np.float32)
    data = ready((epoch.user[:steps], epoch.item[:steps]), label)
    return data, steps, per_call


def ready(*arrays):
    """A tf.data pipeline over batches in memory; autotune off, as it may hang."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(arrays).prefetch(2).with_options(options)


def evaluation_data(split: Split, job: Job, lists: EvaluationLists):
    """Dataset of (user, item) in batches of whole users; the last one repeats users."""
    per_user = lists.items.shape[1]
    users = max(1, job.eval_batch_size // per_user)
    order = np.arange(-(-split.num_users // users) * users, dtype=np.int32) % split.num_users
    shape = (-1, users * per_user)
    return ready((np.repeat(order, per_user).reshape(shape), lists.items[order].reshape(shape)))


def hits_first(scores: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """The rank (from 0) of the last column; see `reference_model.base.metrics.ranks`."""
    return ((scores[:, :-1] >= scores[:, -1:]) & ~masked[:, :-1]).sum(axis=1)


def measure(job: Job) -> dict[str, Any]:
    """Rates over whole passes until `job.seconds` of training."""
    setup.hide_accelerators()
    import keras

    from reference_model.model.neumf import build_neumf

    split = job_split(job)
    data, steps, per_call = training_data(split, job)
    model = build_neumf(engine_config(job), seed=job.seed)
    optimizer = keras.optimizers.Adam(job.learning_rate, job.beta1, job.beta2, job.epsilon)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def compile_for(steps_per_call: int) -> None:
        model.compile(optimizer, loss, jit_compile=True, steps_per_execution=steps_per_call)

    compile_for(per_call)
    model.fit(data.take(per_call), epochs=1, shuffle=False, verbose=0)
    train, passes = Rate(), 0
    while train.seconds < job.seconds and passes < _MOST_PASSES:
        train.timed(
            lambda: model.fit(data, epochs=1, shuffle=False, verbose=0),
            lambda _: steps * job.batch_size,
        )
        passes += 1
    figures = {"train_examples_per_s": train.per_second, "epochs": passes}
    if job.evaluate:
        compile_for(_PREDICT_STEPS_PER_CALL)
        evaluation, hr = evaluation_rate(model, split, job)
        rate = evaluation.per_second
        figures |= {"eval_pairs_per_s": rate, "eval_scores_per_s": rate, "hr": hr}
    return {**figures, **memory()}


def evaluation_rate(model, split: Split, job: Job) -> tuple[Rate, float]:
    """Rate over `predict` and the ranking, after one that does not count; and HR."""
    sampler = make_sampler(split)
    draw = stream(job.seed, STREAM_EVALUATION)
    lists = draw_evaluation_lists(split, job.eval_negatives, sampler, draw)
    data = evaluation_data(split, job, lists)
    count, per_user = lists.items.shape

    def evaluate() -> float:
        scores = model.predict(data, verbose=0).reshape(-1, per_user)[:count]
        return hit_rate_at(hits_first(scores, lists.masked), job.top_k)

    evaluate()
    rate = Rate()
    for _ in range(2):
        hr = rate.timed(evaluate, lambda _: count * per_user)
    return rate, hr


if __name__ == "__main__":
    answer(measure)
