"""Reference convergence points: how many epochs runs of a track need to its target.

A point is one batch size with one choice of hyperparameters, and the epochs that
each of its runs needed.  They come from two kinds of files in `reference_points/`:
calibrations (HR curves, see `reference_points.py`), and figures taken from public
logs (`reference_logs.py`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from compliance.rcp.calibration import POINTS_DIR, epochs_to
from compliance.rcp.public_logs import KIND
from compliance.tracks import Track

# Fewer runs say too little about how epochs spread.
MIN_RUNS = 10
# Interpolation: the neighbours lie within two doublings of each other, and no more
# than this share of either's runs missed the target.
MAX_RATIO, MAX_CENSORED = 4.0, 0.1
_HYPER = ("optimizer", "learning_rate", "beta1", "beta2", "epsilon")


class NoReference(ValueError):
    """There is nothing to compare with; one line says why."""


@dataclass(frozen=True)
class Point:
    """One reference.  `epochs`: of each run to the target, None where it was not
    reached within the `cap` epochs that were trained."""

    track: str
    target: float
    batch_size: int
    settings: dict[str, Any]
    cap: int
    epochs: tuple[float | None, ...]
    source: str
    interpolated: bool = False

    @property
    def censored(self) -> int:
        """Runs that did not reach the target."""
        return sum(e is None for e in self.epochs)

    def values(self, cap: float) -> list[float]:
        """Epochs, where later than `cap` or never is cap + 1."""
        return [e if e is not None and e <= cap else cap + 1 for e in self.epochs]


def load_points(track: Track, folder: Path = POINTS_DIR) -> list[Point]:
    """The track's points by batch size, the fastest settings of each.

    Several files may hold runs of the same settings (other seeds): they are one
    point.  Raises NoReference where a file cannot be used.
    """
    merged: dict[str, Point] = {}
    for path in sorted(folder.glob("*.json")):
        for point in _read(path, track):
            key = json.dumps([point.batch_size, point.cap, point.settings], sort_keys=True)
            before = merged.get(key)
            merged[key] = point if before is None else Point(
                point.track, point.target, point.batch_size, point.settings, point.cap,
                before.epochs + point.epochs, f"{before.source}, {point.source}")
    best: dict[int, Point] = {}
    for point in merged.values():
        if len(point.epochs) < MIN_RUNS:
            continue
        rival = best.get(point.batch_size)
        cap = min(point.cap, rival.cap) if rival else 0
        if rival is None or _mean(point.values(cap)) < _mean(rival.values(cap)):
            best[point.batch_size] = point
    return sorted(best.values(), key=lambda p: p.batch_size)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _read(path: Path, track: Track) -> list[Point]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["track"] != track.name or track.target is None:
            return []
        if data.get("kind") == KIND:
            return [Point(track.name, data["target"], p["batch_size"], p["settings"],
                          p["epochs_trained"], tuple(p["epochs"]), f"{path.name}: {p['entry']}")
                    for p in data["points"]]
        settings = data["settings"]
        if not _of_track(settings, data["split_digest"], track):
            return []
        epochs = tuple(epochs_to(run["hit_rate"], track.target) for run in data["runs"])
        return [Point(track.name, track.target, settings["batch_size"],
                      {k: settings[k] for k in _HYPER}, data["epochs"], epochs, path.name)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise NoReference(f"{path.name} is no file of reference points: {error!r}") from None


def _of_track(settings: dict[str, Any], digest: str, track: Track) -> bool:
    """Whether a calibration trained what the track is now."""
    fixed = {"mf_dim": track.model.mf_dim, "mlp_layers": list(track.model.mlp_layers),
             "l2_mf": track.model.l2_mf, "l2_mlp": list(track.model.l2_mlp),
             "train_negatives": track.sampling.train_negatives,
             "eval_negatives": track.evaluation.negatives, "top_k": track.evaluation.top_k}
    return digest == track.dataset.split_digest and all(
        settings[key] == value for key, value in fixed.items())


def find_point(points: Sequence[Point], batch_size: int) -> Point:
    """The point of a batch size, interpolated where that is defensible.

    Epochs grow with the batch size, but how fast is not known between points far
    apart, nor beyond them; so there is no extrapolation.  Raises NoReference.
    """
    exact = next((p for p in points if p.batch_size == batch_size), None)
    if exact is not None:
        return exact
    known = ", ".join(f"{p.batch_size:,}" for p in points) or "none"
    below = [p for p in points if p.batch_size < batch_size]
    above = [p for p in points if p.batch_size > batch_size]
    if not below or not above:
        raise NoReference(f"batch size {batch_size:,} lies outside the reference points ({known})")
    low, high = below[-1], above[0]
    between = f"batch sizes {low.batch_size:,} and {high.batch_size:,}"
    if high.batch_size > MAX_RATIO * low.batch_size:
        raise NoReference(f"batch size {batch_size:,} has no reference point, and {between} are "
                          f"more than {MAX_RATIO:g} times apart")
    if any(p.censored > MAX_CENSORED * len(p.epochs) for p in (low, high)):
        raise NoReference(f"too many runs missed the target at {between} to interpolate")
    return _between(low, high, batch_size)


def _between(low: Point, high: Point, batch_size: int) -> Point:
    """Quantile by quantile, linear in the batch size as MLPerf's checker has it.

    Rounded down to whole epochs, which favours the set that is judged.
    """
    cap = min(low.cap, high.cap)
    ordered = [sorted(p.values(cap)) for p in (low, high)]
    if _mean(ordered[0]) > _mean(ordered[1]):
        raise NoReference(f"batch size {high.batch_size:,} converges in fewer epochs than "
                          f"{low.batch_size:,} in the reference: nothing to interpolate")
    weight = (batch_size - low.batch_size) / (high.batch_size - low.batch_size)
    count = min(len(o) for o in ordered)
    epochs: list[float | None] = []
    for i in range(count):
        a, b = (o[min(int((i + 0.5) / count * len(o)), len(o) - 1)] for o in ordered)
        value = math.floor((1 - weight) * a + weight * b)
        epochs.append(value if value <= cap else None)
    return Point(low.track, low.target, batch_size, {}, cap, tuple(epochs),
                 f"between {low.source} and {high.source}", interpolated=True)
