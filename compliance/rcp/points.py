"""Reference convergence points: the epochs that runs of a track need to reach its target.

A point consists of a batch size, a choice of hyperparameters, and the epochs that each
run needed. Points come from two kinds of files in `compliance/reference_points/`:
calibrations (curves of the hit rate, see `calibration.py`), and epochs taken from public
logs (`public_logs.py`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from compliance.rcp.calibration import REFERENCE_POINTS_DIR, epochs_to_target
from compliance.rcp.public_logs import KIND
from compliance.tracks import Track

# With fewer runs the spread of the epochs is too uncertain.
MIN_RUNS = 10
# Interpolation is allowed if the two batch sizes differ by at most this factor and if at most
# this share of either point's runs missed the target.
MAX_BATCH_SIZE_RATIO, MAX_CENSORED_SHARE = 4.0, 0.1
_HYPERPARAMETERS = ("optimizer", "learning_rate", "beta1", "beta2", "epsilon")


class NoReferencePoint(ValueError):
    """There is no reference point to compare with; the message gives the reason in one line."""


@dataclass(frozen=True)
class ReferencePoint:
    """The epochs that runs of one track needed at one batch size.

    Attributes:
      track: The track's name.
      target: The target hit rate of the runs.
      batch_size: The global batch size.
      settings: The hyperparameters; empty if the point is interpolated.
      epochs_trained: The maximum number of epochs of each run.
      epochs: Epochs to the target of each run; None if the run did not reach it.
      source: A description of the file that contains the point.
      is_interpolated: Whether the point was interpolated between two batch sizes.
    """

    track: str
    target: float
    batch_size: int
    settings: dict[str, Any]
    epochs_trained: int
    epochs: tuple[float | None, ...]
    source: str
    is_interpolated: bool = False

    @property
    def num_censored(self) -> int:
        """Runs that did not reach the target."""
        return sum(e is None for e in self.epochs)

    def censored_epochs(self, max_epochs: float) -> list[float]:
        """Returns the epochs of each run; `max_epochs` + 1 means later than that, or never."""
        return [e if e is not None and e <= max_epochs else max_epochs + 1 for e in self.epochs]


def load_reference_points(track: Track, folder: Path = REFERENCE_POINTS_DIR
                          ) -> list[ReferencePoint]:
    """Loads the points of a track.

    Several files may contain runs with the same settings and different seeds; they are merged
    into one point. Points with fewer than MIN_RUNS runs are left out.

    Args:
      track: The track.
      folder: The folder of the files.

    Returns:
      One point for each batch size, the one whose settings converge fastest, sorted by batch
      size.

    Raises:
      NoReferencePoint: A file cannot be used.
    """
    merged: dict[str, ReferencePoint] = {}
    for path in sorted(folder.glob("*.json")):
        for point in _read_points(path, track):
            key = json.dumps([point.batch_size, point.epochs_trained, point.settings],
                             sort_keys=True)
            earlier = merged.get(key)
            merged[key] = point if earlier is None else ReferencePoint(
                point.track, point.target, point.batch_size, point.settings, point.epochs_trained,
                earlier.epochs + point.epochs, f"{earlier.source}, {point.source}")
    fastest: dict[int, ReferencePoint] = {}
    for point in merged.values():
        if len(point.epochs) < MIN_RUNS:
            continue
        rival = fastest.get(point.batch_size)
        # Two points are compared up to the last epoch that both were trained for.
        cap = min(point.epochs_trained, rival.epochs_trained) if rival else 0
        if rival is None or _mean(point.censored_epochs(cap)) < _mean(rival.censored_epochs(cap)):
            fastest[point.batch_size] = point
    return sorted(fastest.values(), key=lambda p: p.batch_size)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _read_points(path: Path, track: Track) -> list[ReferencePoint]:
    """Reads the points of a track from one file; none if the file is of another track."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["track"] != track.name or track.target is None:
            return []
        if data.get("kind") == KIND:
            return [ReferencePoint(
                track.name, data["target"], p["batch_size"], p["settings"], p["epochs_trained"],
                tuple(p["epochs"]), f"{path.name}: {p['entry']}") for p in data["points"]]
        settings = data["settings"]
        if not _matches_track(settings, data["split_digest"], track):
            return []
        epochs = tuple(epochs_to_target(run["hit_rate"], track.target) for run in data["runs"])
        hyperparameters = {key: settings[key] for key in _HYPERPARAMETERS}
        return [ReferencePoint(track.name, track.target, settings["batch_size"], hyperparameters,
                               data["epochs"], epochs, path.name)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise NoReferencePoint(
            f"{path.name} is not a file of reference points: {error!r}") from None


def _matches_track(settings: dict[str, Any], split_digest: str, track: Track) -> bool:
    """Whether a calibration used the track's current data and model."""
    fixed = {"mf_dim": track.model.mf_dim, "mlp_layers": list(track.model.mlp_layers),
             "l2_mf": track.model.l2_mf, "l2_mlp": list(track.model.l2_mlp),
             "train_negatives": track.sampling.train_negatives,
             "eval_negatives": track.evaluation.negatives, "top_k": track.evaluation.top_k}
    return split_digest == track.dataset.split_digest and all(
        settings[key] == value for key, value in fixed.items())


def find_reference_point(points: Sequence[ReferencePoint], batch_size: int) -> ReferencePoint:
    """Finds the point of a batch size, or interpolates it between two points.

    Epochs grow with the batch size, but their growth between distant points and outside the
    range of points is unknown. So distant points are not interpolated, and nothing is
    extrapolated.

    Args:
      points: The track's points, sorted by batch size.
      batch_size: The batch size of the set.

    Returns:
      The point of that batch size, or one interpolated between its two neighbours.

    Raises:
      NoReferencePoint: There is no point, and interpolation is not allowed.
    """
    exact = next((p for p in points if p.batch_size == batch_size), None)
    if exact is not None:
        return exact
    known = ", ".join(f"{p.batch_size:,}" for p in points) or "none"
    below = [p for p in points if p.batch_size < batch_size]
    above = [p for p in points if p.batch_size > batch_size]
    if not below or not above:
        raise NoReferencePoint(
            f"batch size {batch_size:,} is outside the reference points ({known})")
    low, high = below[-1], above[0]
    between = f"batch sizes {low.batch_size:,} and {high.batch_size:,}"
    if high.batch_size > MAX_BATCH_SIZE_RATIO * low.batch_size:
        raise NoReferencePoint(
            f"batch size {batch_size:,} has no reference point, and {between} differ by "
            f"more than a factor of {MAX_BATCH_SIZE_RATIO:g}")
    if any(p.num_censored > MAX_CENSORED_SHARE * len(p.epochs) for p in (low, high)):
        raise NoReferencePoint(f"too many runs missed the target at {between} to interpolate")
    return _interpolate(low, high, batch_size)


def _interpolate(low: ReferencePoint, high: ReferencePoint, batch_size: int) -> ReferencePoint:
    """Interpolates each quantile linearly in the batch size, as MLPerf's checker does.

    The epochs are rounded down, which favours the tested set.
    """
    epochs_trained = min(low.epochs_trained, high.epochs_trained)
    sorted_epochs = [sorted(p.censored_epochs(epochs_trained)) for p in (low, high)]
    if _mean(sorted_epochs[0]) > _mean(sorted_epochs[1]):
        raise NoReferencePoint(
            f"batch size {high.batch_size:,} converges in fewer epochs than "
            f"{low.batch_size:,} in the reference, so it is not possible to interpolate")
    weight = (batch_size - low.batch_size) / (high.batch_size - low.batch_size)
    count = min(len(side) for side in sorted_epochs)
    epochs: list[float | None] = []
    for i in range(count):
        # Use the quantile (i + 0.5) / count of each side, so sides of different sizes match.
        low_epochs, high_epochs = (
            side[min(int((i + 0.5) / count * len(side)), len(side) - 1)] for side in sorted_epochs)
        value = math.floor((1 - weight) * low_epochs + weight * high_epochs)
        epochs.append(value if value <= epochs_trained else None)
    return ReferencePoint(low.track, low.target, batch_size, {}, epochs_trained, tuple(epochs),
                          f"between {low.source} and {high.source}", is_interpolated=True)
