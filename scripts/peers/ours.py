"""This project's engine, measured: a job on standard input, one JSON line out.

The clock runs where a trial's runs: compilation is before it, sampling is in it.
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
from scripts.peers.measure import Rate, answer, memory

_MOST_EPOCHS = 200


def engine_config(job: Job) -> EngineConfig:
    """The job's sizes as an engine wants them."""
    names = EngineConfig.__dataclass_fields__.keys() & job.__dataclass_fields__.keys()
    return EngineConfig(**{name: getattr(job, name) for name in names})


def make_engine(job: Job) -> Engine:
    """The job's engine on this machine's CPU, prepared for the job's seed."""
    setup.hide_accelerators()
    engine = load_engine_class(job.engine)(engine_config(job), NullSink(), "cpu")
    engine.prepare()
    engine.reset(job.seed)
    return engine


def job_split(job: Job) -> Split:
    """The job's dataset from the prepared cache. Raises where it is another one."""
    split = load_split(dataset_spec(load_track(job.track)), job.data_dir)
    if split.digest != job.digest:
        raise RuntimeError(f"the split has digest {split.digest}, not {job.digest}")
    return split


def measure(job: Job) -> dict[str, Any]:
    """The figures of one job."""
    engine = make_engine(job)
    try:
        return {"engine": job.engine, **_MEASURES[job.goal](job, engine)}
    finally:
        engine.close()


class _Evaluation:
    """Evaluations so far, in pairs of their lists and in scores that they computed."""

    def __init__(self) -> None:
        self._listed, self._computed = Rate(), Rate()

    def timed(self, engine: Engine) -> EvalResult:
        before = self._listed.seconds
        found = self._listed.timed(engine.evaluate, lambda r: r.scored)
        computed = found.scored if found.computed is None else found.computed
        self._computed.add(computed, self._listed.seconds - before)
        return found

    def rates(self) -> dict[str, float | None]:
        return {
            "eval_pairs_per_s": self._listed.per_second,
            "eval_scores_per_s": self._computed.per_second,
        }


def train_rates(job: Job, engine: Engine) -> dict[str, Any]:
    """Rates over whole epochs after the first, until `job.seconds` of training."""
    engine.load(job_split(job))
    engine.train_epoch(1)
    found = engine.evaluate()
    train, evaluation, epoch = Rate(), _Evaluation(), 1
    while train.seconds < job.seconds and epoch < _MOST_EPOCHS:
        epoch += 1
        train.timed(lambda: engine.train_epoch(epoch), lambda r: r.examples)
        if job.evaluate:
            found = evaluation.timed(engine)
    return {
        "train_examples_per_s": train.per_second,
        **evaluation.rates(),
        "hr": found.hr if job.evaluate else None,
        "epochs": epoch,
        **memory(),
    }


def time_to_target(job: Job, engine: Engine) -> dict[str, Any]:
    """Seconds from before the dataset is read to the evaluation that reaches it."""
    start = time.perf_counter()
    engine.load(job_split(job))
    loaded = time.perf_counter() - start
    train, evaluation = Rate(), _Evaluation()
    for epoch in range(1, job.max_epochs + 1):
        train.timed(lambda: engine.train_epoch(epoch), lambda r: r.examples)
        found = evaluation.timed(engine)
        if found.hr >= job.target:
            break
    return {
        "seconds_to_target": time.perf_counter() - start if found.hr >= job.target else None,
        "data_seconds": loaded,
        "train_examples_per_s": train.per_second,
        **evaluation.rates(),
        "hr": found.hr,
        "epochs": epoch,
        **memory(),
    }


def sampling_rate(job: Job, engine: Engine) -> dict[str, Any]:
    """Negatives and order of whole epochs alone, as the engine itself makes them.

    An engine that draws elsewhere than on the host offers `sample_epoch(epoch)`,
    which does that and no more; `epoch_batches` also hands it all to the host.
    """
    engine.load(job_split(job))
    sample = getattr(engine, "sample_epoch", None) or engine.epoch_batches
    examples = job.num_positives * (1 + job.train_negatives)
    # Until what `load` set going is over; its own epoch is the first.
    for epoch in (1, 2):
        sample(epoch)
    rate, epoch = Rate(), 2
    while rate.seconds < job.seconds / 2 and epoch < _MOST_EPOCHS:
        epoch += 1
        rate.timed(lambda: sample(epoch), lambda _: examples)
    return {
        "sampling_examples_per_s": rate.per_second,
        "sampled_by": sample.__name__,
        "epochs": epoch,
        **memory(),
    }


_MEASURES = {"train": train_rates, "target": time_to_target, "sampling": sampling_rate}

if __name__ == "__main__":
    answer(measure)
