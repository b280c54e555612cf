"""Measures this project's engine: reads a job from standard input, prints one JSON line.

The same parts are timed as in a trial: compilation is excluded, sampling is included.

`version_worker.py` also runs in the folders of other versions, so these names of this module
must not change: `make_engine`, `job_split`, `engine_config`, `load_engine_class`, `NullSink`.
"""

from __future__ import annotations

import time
from typing import Any

from compliance.tracks import load_track
from harness.config.engine_loader import load_engine_class
from harness.config.trial_spec import dataset_spec
from harness.devices import setup
from reference_model.base.config import EngineConfig
from reference_model.data.prepare import load_split
from reference_model.data.split import Split
from reference_model.engine import Engine, EvalResult
from reference_model.events import NullSink
from scripts.peers.jobs import Job
from scripts.peers.measure import Rate, answer_job, memory_use

_MAX_EPOCHS = 200


def engine_config(job: Job) -> EngineConfig:
    """Creates the configuration of an engine from the job's fields of the same names."""
    names = EngineConfig.__dataclass_fields__.keys() & job.__dataclass_fields__.keys()
    return EngineConfig(**{name: getattr(job, name) for name in names})


def make_engine(job: Job) -> Engine:
    """Creates the job's engine on the CPU, compiled and reset to the job's seed."""
    setup.hide_accelerators()
    engine = load_engine_class(job.engine)(engine_config(job), NullSink(), "cpu")
    engine.prepare()
    engine.reset(job.seed)
    return engine


def job_split(job: Job) -> Split:
    """Loads the job's split. Raises RuntimeError if its digest differs."""
    split = load_split(dataset_spec(load_track(job.track)), job.data_dir)
    if split.digest != job.digest:
        raise RuntimeError(f"the split has digest {split.digest}, not {job.digest}")
    return split


def measure(job: Job) -> dict[str, Any]:
    """Returns the measured values of one job."""
    engine = make_engine(job)
    try:
        return {"engine": job.engine, **_MEASURE_BY_GOAL[job.goal](job, engine)}
    finally:
        engine.close()


class _EvaluationRates:
    """Rates of the evaluations so far: pairs in the evaluation lists, and computed scores."""

    def __init__(self) -> None:
        self._pairs, self._scores = Rate(), Rate()

    def time_evaluation(self, engine: Engine) -> EvalResult:
        """Evaluates once and adds the elapsed time."""
        seconds_before = self._pairs.seconds
        evaluated = self._pairs.time_call(engine.evaluate, lambda result: result.scored)
        # An engine that does not count its scores computes the scores of all pairs.
        computed = evaluated.scored if evaluated.computed is None else evaluated.computed
        self._scores.add(computed, self._pairs.seconds - seconds_before)
        return evaluated

    def as_dict(self) -> dict[str, float | None]:
        """Returns both rates, by their names in a measurement."""
        return {
            "eval_pairs_per_s": self._pairs.per_second,
            "eval_scores_per_s": self._scores.per_second,
        }


def measure_training(job: Job, engine: Engine) -> dict[str, Any]:
    """Measures whole epochs after the first, until at least `job.seconds` of training."""
    engine.load(job_split(job))
    engine.train_epoch(1)
    evaluated = engine.evaluate()
    train, evaluation, epoch = Rate(), _EvaluationRates(), 1
    while train.seconds < job.seconds and epoch < _MAX_EPOCHS:
        epoch += 1
        train.time_call(lambda: engine.train_epoch(epoch), lambda result: result.examples)
        if job.evaluate:
            evaluated = evaluation.time_evaluation(engine)
    return {
        "train_examples_per_s": train.per_second,
        **evaluation.as_dict(),
        "hr": evaluated.hr if job.evaluate else None,
        "epochs": epoch,
        **memory_use(),
    }


def measure_time_to_target(job: Job, engine: Engine) -> dict[str, Any]:
    """Measures the time from reading the dataset to the evaluation that reaches the target."""
    start = time.perf_counter()
    engine.load(job_split(job))
    load_seconds = time.perf_counter() - start
    train, evaluation = Rate(), _EvaluationRates()
    for epoch in range(1, job.max_epochs + 1):
        train.time_call(lambda: engine.train_epoch(epoch), lambda result: result.examples)
        evaluated = evaluation.time_evaluation(engine)
        if evaluated.hr >= job.target:
            break
    return {
        "seconds_to_target": time.perf_counter() - start if evaluated.hr >= job.target else None,
        "data_seconds": load_seconds,
        "train_examples_per_s": train.per_second,
        **evaluation.as_dict(),
        "hr": evaluated.hr,
        "epochs": epoch,
        **memory_use(),
    }


def measure_sampling(job: Job, engine: Engine) -> dict[str, Any]:
    """Measures negatives and epoch order of whole epochs alone, as drawn by the engine.

    An engine that draws on its device has `sample_epoch(epoch)`, which only draws;
    `epoch_batches` also copies the batches to the host.
    """
    engine.load(job_split(job))
    sample = getattr(engine, "sample_epoch", None) or engine.epoch_batches
    examples = job.num_positives * (1 + job.train_negatives)
    # `load` prepares the first epoch in the background; wait until that has ended.
    for epoch in (1, 2):
        sample(epoch)
    rate, epoch = Rate(), 2
    while rate.seconds < job.seconds / 2 and epoch < _MAX_EPOCHS:
        epoch += 1
        rate.time_call(lambda: sample(epoch), lambda _: examples)
    return {
        "sampling_examples_per_s": rate.per_second,
        "sampled_by": sample.__name__,
        "epochs": epoch,
        **memory_use(),
    }


_MEASURE_BY_GOAL = {
    "train": measure_training,
    "target": measure_time_to_target,
    "sampling": measure_sampling,
}

if __name__ == "__main__":
    answer_job(measure)
