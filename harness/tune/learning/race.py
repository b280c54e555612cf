"""The race: more seeds for the best settings of the search, until one is shown to be the fastest.

The runs of the search only choose who takes part, since the fastest of many single runs is partly
luck. The race counts its own runs. A setting leaves when its expected time is shown to be above
the best. Settings that stay cannot be told apart: they are tied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from compliance.tracks import Track
from harness.tune.learning.models import SecondsModel, distances
from harness.tune.learning.objective import (
    Standing,
    make_standing,
    pooled_spread,
    t_quantile,
)
from harness.tune.learning.proposals import predicted_times
from harness.tune.learning.record import CONVERGED, TrialRecord
from harness.tune.learning.settings import Settings

MAX_RACERS = 6
# No setting wins with fewer runs of its own than this, and none gets more.
MIN_RUNS, MAX_RUNS = 5, 12
# A setting leaves the race if its difference to the best exceeds this quantile of Student's t. A
# race looks after every run, so the claim that a setting is slower needs a higher quantile: of
# six equal settings, any is claimed to be slower in at most 5% of the races (simulated in
# tests/harness/tune/test_race.py).
LEAVE_QUANTILE, CLAIM_QUANTILE = 0.98, 0.9995
# Settings of the search whose predicted time exceeds the best by more than this do not take part.
_MAX_LOG_BEHIND = 0.4
# Nor do settings that hardly differ from better ones: by less than a sixth of the learning rate.
_MIN_DISTANCE = 0.25


@dataclass(frozen=True)
class Racer:
    """A setting in the race, and what is known of it.

    Attributes:
      settings: The settings, with the fastest number of threads.
      standing: What the runs of the race show.
      is_out: Whether it has left the race.
      is_slower: Whether it is shown to be slower than the best, which takes more than leaving.
    """

    settings: Settings
    standing: Standing
    is_out: bool = False
    is_slower: bool = False


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
    reached = {r.settings.learning_key: r.settings for r in records if r.outcome == CONVERGED}
    settings = list(reached.values())
    if not settings:
        return []
    mean, _ = predicted_times(settings, records, target)
    times = dict(zip(settings, mean.tolist()))
    ordered = sorted(settings, key=lambda s: times[s])
    limit = times[ordered[0]] + _MAX_LOG_BEHIND
    chosen: list[Settings] = []
    for one in ordered:
        is_new = not chosen or distances([one], chosen).min() >= _MIN_DISTANCE
        if times[one] <= limit and is_new:
            chosen.append(one)
    return chosen[:count]


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
    if best is None:
        return found
    return [
        Racer(r.settings, r.standing, *(
            is_behind(r.standing, best.standing, quantile)
            for quantile in (LEAVE_QUANTILE, CLAIM_QUANTILE)
        )) for r in found
    ]  # fmt: skip


def is_behind(standing: Standing, best: Standing, quantile: float) -> bool:
    """Returns whether settings take longer than the best, by more than chance explains.

    Settings whose runs all failed are behind once they have two runs.

    Args:
      standing: The settings.
      best: The best settings.
      quantile: The quantile of Student's t that the difference must exceed.
    """
    if standing is best or not standing.runs:
        return False
    if not standing.epochs:
        return standing.runs > 1
    difference = math.log(standing.objective / best.objective)
    limit = t_quantile(quantile, min(standing.freedom, 60))
    return difference > limit * math.hypot(standing.error, best.error)


def next_racer(racers: Sequence[Racer]) -> Settings | None:
    """Returns the settings that get the next run; None if the race is decided.

    First every setting in the race gets two runs, then the best one as many as a winner needs,
    then those with the fewest runs; of equals the best.

    Args:
      racers: The racers, the best first.
    """
    within = [r for r in racers if not r.is_out and r.standing.runs < MAX_RUNS]
    if not within:
        return None
    is_alone = sum(not r.is_out for r in racers) == 1
    if is_alone and within[0].standing.runs >= MIN_RUNS:
        return None
    fewest = min(within, key=lambda r: r.standing.runs)
    if fewest.standing.runs >= 2 and within[0].standing.runs < MIN_RUNS:
        return within[0].settings
    return fewest.settings


def winner(racers: Sequence[Racer]) -> Racer | None:
    """Returns the best racer with enough runs; None if there is none."""
    enough = [r for r in racers if not r.is_out and r.standing.runs >= MIN_RUNS
              and r.standing.epochs]
    return enough[0] if enough else None


def tied_with(best: Racer, racers: Sequence[Racer]) -> list[Racer]:
    """Returns the other racers with runs that are not shown to be slower than the best."""
    return [r for r in racers
            if r.settings != best.settings and not r.is_slower and r.standing.runs]
