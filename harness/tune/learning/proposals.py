"""Proposes the settings of the next trial of the search.

First come the start settings and a small grid around them. Then Optuna's sampler and changes of
the best settings make candidates, and the models choose the one with the largest expected
improvement of the time to the target.
"""

from __future__ import annotations

import dataclasses
import math
import random
import warnings
from typing import Any, Collection, Sequence

import numpy as np

from harness.tune.learning.models import EpochsModel, SecondsModel, observed_epochs
from harness.tune.learning.record import CONVERGED, TrialRecord
from harness.tune.learning.settings import Settings, Space, round_number, to_scale

# (Factor of the batch size, factor of the learning rate) of the grid.
_GRID = ((1, 1), (1, 2), (1 / 2, 1.5), (2, 4), (1, 4), (1 / 4, 1), (4, 8))
_OTHERS = (("precision", "bfloat16"), ("optimizer", "lazy_adam"))
_SAMPLED, _CHANGED, _PARENTS = 24, 36, 4


def first_settings(space: Space) -> list[Settings]:
    """Returns the settings with which a search begins, without repetitions."""
    start = space.start
    found = []
    for batch, rate in _GRID:
        values = {"batch_size": int(start.batch_size * batch),
                  "learning_rate": start.learning_rate * rate}
        found.append(space.clip(dataclasses.replace(start, **values)))
    for name, value in _OTHERS:
        found.append(space.clip(dataclasses.replace(found[1], **{name: value})))
    return list(dict.fromkeys(found))


def next_settings(
    space: Space, records: Sequence[TrialRecord], target: float, seed: int,
    compiled: Collection[Any] = (), compile_seconds: float = 0.0,
) -> Settings | None:  # fmt: skip
    """Proposes settings that were not tried.

    Args:
      space: The space.
      records: The finished trials.
      target: The hit rate to reach.
      seed: Seed of the random choices.
      compiled: The engine keys of the settings whose programs are compiled.
      compile_seconds: Seconds that another one takes.

    Returns:
      The settings; None if the space has no others.
    """
    tried = {r.settings.learning_key for r in records if r.outcome != "probe"}
    for settings in first_settings(space):
        if settings.learning_key not in tried:
            return settings
    shown = [r for r in records if observed_epochs(r, target) is not None]
    generator = random.Random(seed)
    candidates = _sampled(space, shown, target, seed) + _changed(space, shown, target, generator)
    candidates = [c for c in dict.fromkeys(candidates) if c.learning_key not in tried]
    if not candidates or not shown:
        return None
    improvement = expected_improvement(candidates, shown, target)
    # Per second that the trial takes: Snoek, Larochelle and Adams 2012, "Practical Bayesian
    # Optimization of Machine Learning Algorithms", section 3.2.
    seconds = np.exp(predicted_times(candidates, shown, target)[0])
    seconds += [0.0 if c.engine_key in compiled else compile_seconds for c in candidates]
    return candidates[int(np.argmax(improvement / seconds))]


def log_times(records: Sequence[TrialRecord], target: float) -> list[float]:
    """Returns the log of the expected seconds of a run, of each trial that shows epochs."""
    seconds = SecondsModel(records)
    return [math.log(seconds.fixed_seconds
                     + seconds.seconds_per_epoch(r.settings) * (observed_epochs(r, target) or 1))
            for r in records]


def predicted_times(
    settings: Sequence[Settings], records: Sequence[TrialRecord], target: float
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts the log of the seconds of a run with both models.

    Args:
      settings: The settings.
      records: The trials.
      target: The hit rate to reach.

    Returns:
      Mean and standard deviation of the log, [n] each; without the noise of the seeds.
    """
    epochs, seconds = EpochsModel(records, target), SecondsModel(records)
    mean, deviation = epochs.predict(settings)
    speed = np.array([seconds.seconds_per_epoch(s) for s in settings])
    error = np.array([seconds.relative_error(s) for s in settings])
    return np.log(seconds.fixed_seconds + speed * np.exp(mean)), np.hypot(deviation, error)


def best_prediction(
    records: Sequence[TrialRecord], target: float
) -> tuple[Settings, float, float] | None:
    """Returns the settings with the least predicted time among those that reached the target.

    The least time of a single trial would be partly luck; the prediction also uses its
    neighbours.

    Returns:
      (Settings, predicted seconds of a run, standard deviation of their log); None if no trial
      reached the target.
    """
    reached = list(dict.fromkeys(r.settings for r in records if r.outcome == CONVERGED))
    if not reached:
        return None
    mean, deviation = predicted_times(reached, records, target)
    k = int(np.argmin(mean))
    return reached[k], math.exp(mean[k]), float(deviation[k])


def expected_improvement(
    candidates: Sequence[Settings], records: Sequence[TrialRecord], target: float
) -> np.ndarray:
    """Returns by how much each candidate is expected to lower the log of the time, [n].

    Jones, Schonlau and Welch 1998, "Efficient Global Optimization of Expensive Black-Box
    Functions", equation 15, over the lowest predicted time of the settings that were tried.
    """
    points = [r.settings for r in records]
    means, deviations = predicted_times([*candidates, *points], records, target)
    mean, deviation = means[: len(candidates)], deviations[: len(candidates)]
    best = means[len(candidates) :].min()
    z = (best - mean) / deviation
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    return (best - mean) * below + deviation * density


def distributions(space: Space) -> dict[str, Any]:
    """Returns Optuna's distributions of the dimensions but the threads; 1 - beta for the betas."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {name: CategoricalDistribution(values)
                             for name, values in space.choices.items()
                             if name != "intra_op_threads"}
    for name, (low, high) in space.ranges.items():
        found[name] = FloatDistribution(low, high, log=True)
    return found


def sampler_values(settings: Settings) -> dict[str, Any]:
    """Returns settings as values of `distributions`."""
    values = dataclasses.asdict(settings)
    del values["intra_op_threads"]
    return {name: to_scale(name, value) if name in ("beta1", "beta2") else value
            for name, value in values.items()}


def study_of(space: Space, records: Sequence[TrialRecord], target: float, seed: int = 0) -> Any:
    """Makes a study in memory of the trials, each with its time as the models know it now."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # options of the sampler that Optuna calls experimental
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=5)
    study = optuna.create_study(sampler=sampler)
    allowed = distributions(space)
    for record, value in zip(records, log_times(records, target)):
        values = sampler_values(record.settings)
        if all(allowed[name]._contains(allowed[name].to_internal_repr(v))
               for name, v in values.items() if v in getattr(allowed[name], "choices", (v,))):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                study.add_trial(optuna.trial.create_trial(
                    params=values, distributions=allowed, value=value))
    return study


def _sampled(
    space: Space, records: Sequence[TrialRecord], target: float, seed: int
) -> list[Settings]:
    """Returns candidates from Optuna's tree-structured Parzen estimator."""
    study, allowed = study_of(space, records, target, seed), distributions(space)
    found = []
    for _ in range(_SAMPLED):
        values = dict(study.ask(allowed).params)
        for name in ("beta1", "beta2"):
            values[name] = 1 - values[name]
        values["intra_op_threads"] = space.start.intra_op_threads
        found.append(space.clip(Settings(**values)))
    return found


def _changed(
    space: Space, records: Sequence[TrialRecord], target: float, generator: random.Random
) -> list[Settings]:
    """Returns the best settings with one or two dimensions changed."""
    times = log_times(records, target)
    order = sorted(range(len(records)), key=lambda i: times[i])
    parents = list(dict.fromkeys(records[i].settings for i in order))[:_PARENTS]
    free = [name for name in space.free if name != "intra_op_threads"]
    found = []
    for number in range(_CHANGED if parents and free else 0):
        parent = parents[number % len(parents)]
        changes: dict[str, Any] = {}
        for name in generator.sample(free, min(len(free), generator.choice((1, 2)))):
            changes[name] = _changed_value(space, parent, name, generator)
        found.append(space.clip(dataclasses.replace(parent, **changes)))
    return found


def _changed_value(space: Space, parent: Settings, name: str, generator: random.Random) -> Any:
    if name == "batch_size":  # a neighbour
        sizes = sorted(space.choices[name])
        at = sizes.index(parent.batch_size) + generator.choice((-1, 1))
        return sizes[min(max(at, 0), len(sizes) - 1)]
    if name in space.choices:
        return generator.choice(space.choices[name])
    scaled = to_scale(name, getattr(parent, name)) * math.exp(generator.gauss(0, 0.4))
    return round_number(name, scaled)
