"""Two models of what a tuner has measured: epochs to the target, and seconds per epoch.

They are separate, because they depend on different settings: the epochs on all but the threads,
the seconds only on batch size, precision, optimizer and threads. So a trial teaches the seconds
of all learning rates, and a trial on a busy machine still teaches epochs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from typing import Any, Sequence

import numpy as np

from harness.tune.learning.record import TrialRecord, crossing
from harness.tune.learning.settings import Settings, to_scale

# How far apart settings are, in units of each dimension, before their epochs are unrelated: an
# octave and a half of the batch size, an octave of the learning rate, and so on.
_UNITS = {"batch_size": 1.5, "learning_rate": 1.0, "beta1": 1.5, "beta2": 2.0, "epsilon": 6.0}
_CATEGORY_DISTANCE = 0.4
# Hyperparameters of the process, of which the most likely combination is used: multiples of the
# units, spread of the log of the epochs between settings, and between seeds.
_SCALES, _SPREADS, _NOISES = (1.0, 2.0, 4.0), (0.3, 0.6, 1.0), (0.05, 0.1, 0.2)
# Epochs of settings that fail or are slow, relative to the best: beyond, the difference is
# irrelevant.
_WORST_RATIO = 4.0
FAILED_EPOCHS = 50.0
# The least advantage of another number of threads that counts.
MIN_GAIN = 0.03


def observed_epochs(record: TrialRecord, target: float) -> float | None:
    """Returns the epochs of a trial as the model takes them; None if it shows none.

    A trial that reached the target counts where its curve crosses it, plus half an epoch: the
    mean distance to the end of an epoch. Of a stopped trial these are the fewest epochs that it
    could have needed. One without success counts with twice its epochs, and with FAILED_EPOCHS at
    least.
    """
    found = crossing(record.hit_rates, target)
    if found is not None:
        return found + 0.5
    if record.projected_epochs is not None:
        return record.projected_epochs
    return max(2.0 * len(record.hit_rates), FAILED_EPOCHS) if record.is_complete else None


class EpochsModel:
    """A Gaussian process of the log of the epochs over the settings, of kind Matern 5/2.

    Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equations 2.25, 2.26,
    4.17 and 5.8. Of a stopped trial only a lower bound is known. It counts with the mean of what
    the process, fitted to the other trials, predicts above that bound.

    Args:
      records: The trials.
      target: The hit rate to reach.
    """

    def __init__(self, records: Sequence[TrialRecord], target: float):
        shown = [(r, e) for r in records if (e := observed_epochs(r, target)) is not None]
        if not shown:
            raise ValueError("no trial shows epochs")
        is_bound = np.array([r.projected_epochs is not None for r, _ in shown])
        worst = _WORST_RATIO * min(e for _, e in shown)
        values = np.log([min(e, worst) for _, e in shown])
        points = [r.settings for r, _ in shown]
        if 0 < is_bound.sum() < len(shown):
            self._fit([p for p, x in zip(points, is_bound) if not x], values[~is_bound])
            mean, deviation = self.predict([p for p, x in zip(points, is_bound) if x])
            deviation = np.hypot(deviation, self._noise)
            values[is_bound] = np.minimum(
                mean_above(values[is_bound], mean, deviation), math.log(worst))
        self._fit(points, values)

    def _fit(self, points: Sequence[Settings], values: np.ndarray) -> None:
        """Finds the most likely hyperparameters and keeps the factors for predictions."""
        self._points, self._mean = list(points), float(values.mean())
        apart = distances(points, points)
        best = -math.inf
        for scale, spread, noise in itertools.product(_SCALES, _SPREADS, _NOISES):
            covariance = _matern(apart / scale, spread) + noise**2 * np.eye(len(values))
            factor = np.linalg.cholesky(covariance)
            white = np.linalg.solve(factor, values - self._mean)
            likelihood = -0.5 * white @ white - np.log(np.diag(factor)).sum()
            if likelihood > best:
                best = likelihood
                self._scale, self._spread, self._noise = scale, spread, noise
                self._factor, self._white = factor, white

    def predict(self, settings: Sequence[Settings]) -> tuple[np.ndarray, np.ndarray]:
        """Predicts the log of the epochs; returns its mean and its standard deviation, [n] each."""
        across = _matern(distances(self._points, settings) / self._scale, self._spread)
        solved = np.linalg.solve(self._factor, across)
        variance = self._spread**2 - (solved**2).sum(axis=0)
        return self._mean + solved.T @ self._white, np.sqrt(np.maximum(variance, 1e-9))


def mean_above(bound: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Returns the means of normal distributions above a bound, [n].

    It is m + s h((b - m) / s) with the hazard h of the standard normal distribution. Far above
    the mean the hazard is about z + 1 / z.
    """
    z = (bound - mean) / deviation
    hazard = [
        x + 1 / x if x > 6
        else math.exp(-x * x / 2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(x / math.sqrt(2)))
        for x in z.tolist()
    ]  # fmt: skip
    return np.maximum(mean + deviation * np.array(hazard), bound)


def _matern(distance: np.ndarray, spread: float) -> np.ndarray:
    scaled = math.sqrt(5) * distance
    return spread**2 * (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def _features(settings: Sequence[Settings]) -> np.ndarray:
    """Returns the numbers of settings on logarithmic scales, in the units above, [n, 5]."""
    return np.array([[math.log2(to_scale(name, getattr(s, name))) / unit
                      for name, unit in _UNITS.items()] for s in settings])


def distances(a: Sequence[Settings], b: Sequence[Settings]) -> np.ndarray:
    """Returns the distances of settings in the units above, [len(a), len(b)]."""
    difference = _features(a)[:, None] - _features(b)[None]
    squares = (difference**2).sum(axis=2)
    for name in ("optimizer", "precision"):
        differs = np.array([[getattr(x, name) != getattr(y, name) for y in b] for x in a])
        squares += _CATEGORY_DISTANCE**2 * differs
    return np.sqrt(squares)


class SecondsModel:
    """Seconds per epoch, and the fixed seconds of a run, from the timed trials.

    Settings that were timed have the lower quartile of their epochs without each trial's first:
    other programs on the machine only add time. The others are predicted: the log of the seconds
    is a parabola in the log of the batch size, plus an effect of each precision, optimizer and
    number of threads, fitted by ridge regression.

    Args:
      records: The trials.
    """

    def __init__(self, records: Sequence[TrialRecord]):
        self._timed: dict[Any, list[float]] = {}
        fixed = []
        for record in records:
            steady = list(record.seconds[1:]) or list(record.seconds)
            if not steady:
                continue
            self._timed.setdefault(record.settings.speed_key, []).extend(steady)
            if record.load_seconds is not None:
                # The first epoch also waits for its order, which later epochs prepare in advance.
                extra = record.seconds[0] - statistics.median(steady)
                fixed.append(record.load_seconds + max(extra, 0.0))
        self.fixed_seconds = statistics.median(fixed) if fixed else 0.0
        self._quartiles = {key: float(np.quantile(x, 0.25)) for key, x in self._timed.items()}
        self._fit()

    @property
    def is_known(self) -> bool:
        """Whether any trial was timed."""
        return bool(self._quartiles)

    def is_timed(self, settings: Settings) -> bool:
        """Whether these settings were timed, so that nothing is predicted."""
        return settings.speed_key in self._quartiles

    def seconds_per_epoch(self, settings: Settings) -> float:
        """Returns the measured or predicted seconds per epoch; 1 if nothing was timed."""
        if settings.speed_key in self._quartiles:
            return self._quartiles[settings.speed_key]
        if not self._quartiles:
            return 1.0
        return float(np.exp(self._row(settings.speed_key) @ self._weights))

    def fastest_threads(self, settings: Settings) -> Settings:
        """Returns the settings with the number of threads that was timed as the fastest.

        Another number than that of `settings` must be faster by MIN_GAIN.
        """
        times = {key[3]: value for key, value in self._quartiles.items()
                 if key[:3] == settings.engine_key}
        if not times:
            return settings
        fastest = min(times, key=lambda threads: times[threads])
        now = times.get(settings.intra_op_threads)
        if now is not None and times[fastest] > (1 - MIN_GAIN) * now:
            return settings
        return dataclasses.replace(settings, intra_op_threads=fastest)

    def relative_error(self, settings: Settings) -> float:
        """Returns the standard error of the seconds per epoch as a share of them.

        Of a median: 1.25 standard deviations over the root of the count; at least half a percent.
        Of a prediction: a fifth.
        """
        times = self._timed.get(settings.speed_key, [])
        if len(times) < 2:
            return 0.2
        middle = statistics.median(times)
        # The median absolute deviation, times 1.48, estimates the standard deviation.
        spread = 1.48 * statistics.median(abs(t - middle) for t in times) / middle
        return max(1.25 * spread / math.sqrt(len(times)), 0.005)

    def _fit(self) -> None:
        keys = list(self._quartiles)
        self._levels = [sorted({key[i] for key in keys}, key=str) for i in (1, 2, 3)]
        self._center = statistics.fmean(math.log2(key[0]) for key in keys) if keys else 0.0
        if not keys:
            return
        rows = np.array([self._row(key) for key in keys])
        values = np.log([self._quartiles[key] for key in keys])
        # The constant is not shrunk; the curvature is, since few batch sizes are timed at first.
        penalty = np.diag([1e-9, 1e-3, 0.1, *([1e-3] * (rows.shape[1] - 3))])
        self._weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ values)

    def _row(self, key: Sequence[Any]) -> np.ndarray:
        x = math.log2(key[0]) - self._center
        flags = [float(key[i + 1] == level)
                 for i, levels in enumerate(self._levels) for level in levels[1:]]
        return np.array([1.0, x, x * x, *flags])
