"""The race: more seeds for the best settings of the search, until one is shown to be the fastest.

The runs of the search only choose who takes part, since the fastest of many single runs is partly luck.
The race counts its own runs. A setting leaves when its expected time is shown to be above the best.
Settings that stay cannot be told apart: they are tied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from compliance.tracks import Track
from harness.tune.learning.models import EpochsModel, SecondsModel, observed_epochs
from harness.tune.learning.objective import Standing, make_standing, pooled_spread
from harness.tune.learning.record import TrialRecord
from harness.tune.learning.settings import Settings

MAX_RACERS = 6
# No setting wins with fewer runs of its own than this, and none gets more.
MIN_RUNS, MAX_RUNS = 5, 20
# Standard errors of the difference that make a setting leave the race.
_LEAVE_AT = 2.0
# Settings of the search whose predicted time exceeds the best by more than this do not take part.
_MAX_LOG_BEHIND = 0.4


@dataclass(frozen=True)
class Racer:
    """A setting in the race, and what is known of it.

    Attributes:
      settings: The settings, with the fastest number of threads.
      standing: What the runs of the race show.
      is_out: Whether it is shown to be slower than the best.
    """

    settings: Settings
    standing: Standing
    is_out: bool = False


def choose_racers(
    records: Sequence[TrialRecord], target: float, count: int = MAX_RACERS
) -> list[Settings]:
    """Returns the settings of the search with the least predicted time, the best first.

    The prediction at a setting that was tried is closer to the truth than its one run: the model
    also uses the runs of its neighbours.

    Args:
      records: All trials.
      target: The hit rate to reach.
      count: The largest number of settings.
    """
    shown = [r for r in records if observed_epochs(r, target) is not None]
    reached = {r.settings.learning_key for r in shown if r.outcome == "converged"}
    settings = list({r.settings.learning_key: r.settings for r in shown
                     if r.settings.learning_key in reached}.values())
    if not settings:
        return []
    epochs, seconds = EpochsModel(shown, target), SecondsModel(records)
    mean, _ = epochs.predict(settings)
    times = {s: math.log(seconds.fixed_seconds + seconds.seconds_per_epoch(s) * math.exp(m))
             for s, m in zip(settings, mean.tolist())}
    ordered = sorted(settings, key=lambda s: times[s])
    limit = times[ordered[0]] + _MAX_LOG_BEHIND
    return [s for s in ordered if times[s] <= limit][:count]


def standings(
    racers: Sequence[Settings], records: Sequence[TrialRecord], track: Track
) -> list[Racer]:
    """Returns the racers, the best first, with what the runs of the race show.

    Args:
      racers: The settings that take part.
      records: All trials.
      track: Provides the target and the scoring rule.
    """
    seconds = SecondsModel(records)
    runs = [r for r in records if r.phase == "race" and r.is_complete]
    pools = {s.learning_key: [r for r in runs if r.settings.learning_key == s.learning_key]
             for s in racers}
    spread = pooled_spread([[r.epochs for r in pool if r.epochs] for pool in pools.values()])
    found = []
    for settings in racers:
        pool = pools[settings.learning_key]
        epochs = [r.epochs for r in pool if r.epochs is not None]
        fastest = seconds.fastest_threads(settings)
        standing = make_standing(
            epochs, len(pool) - len(epochs), seconds.fixed_seconds,
            seconds.seconds_per_epoch(fastest), seconds.relative_error(fastest), spread,
            track.scoring, track.runs,
        )  # fmt: skip
        found.append(Racer(fastest, standing))
    found.sort(key=lambda r: r.standing.objective)
    best = next((r for r in found if r.standing.epochs), None)
    return found if best is None else [
        Racer(r.settings, r.standing, is_shown_slower(r.standing, best.standing)) for r in found]


def is_shown_slower(standing: Standing, best: Standing) -> bool:
    """Returns whether settings are shown to take longer than the best.

    Settings whose runs all failed are out once they have two runs.
    """
    if standing is best or not standing.runs:
        return False
    if not standing.epochs:
        return standing.runs > 1
    difference = math.log(standing.objective / best.objective)
    return difference > _LEAVE_AT * math.hypot(standing.error, best.error)


def next_racer(racers: Sequence[Racer]) -> Settings | None:
    """Returns the settings that get the next run; None if the race is decided.

    Those in the race with the fewest runs, the best of them first.

    Args:
      racers: The racers, the best first.
    """
    within = [r for r in racers if not r.is_out and r.standing.runs < MAX_RUNS]
    if not within:
        return None
    is_alone = sum(not r.is_out for r in racers) == 1
    if is_alone and within[0].standing.runs >= MIN_RUNS:
        return None
    return min(within, key=lambda r: r.standing.runs).settings


def winner(racers: Sequence[Racer]) -> Racer | None:
    """Returns the best racer with enough runs; None if there is none."""
    enough = [r for r in racers if not r.is_out and r.standing.runs >= MIN_RUNS
              and r.standing.epochs]
    return enough[0] if enough else None


def tied_with(best: Racer, racers: Sequence[Racer]) -> list[Racer]:
    """Returns the other racers that cannot be told apart from the best."""
    return [r for r in racers if r.settings != best.settings and not r.is_out
            and r.standing.runs]
