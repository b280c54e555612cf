"""Stops a trial whose hit rate shows that it cannot be the best.

The rule is optimistic. It looks up, in the completed trials, how many more epochs a curve needed
to reach the target from the hit rate where this trial is now, and takes the fewest: of all
settings that were ever tried. If the trial would be too slow even with that, it stops. A slow
start alone does not stop a trial: it stops when the epochs that it has already used, plus the
fewest that any trial needed for the rest, exceed the limit.
"""

from __future__ import annotations

import math
from typing import Sequence

# A trial may need this many times the best known time before it is stopped. Epochs of one setting
# vary by about a tenth from seed to seed, so a better setting hardly exceeds it in one run.
MARGIN = 1.5
# With fewer completed curves the rule does not look up anything: it only counts the epochs used.
MIN_CURVES = 3


def fewest_remaining(curves: Sequence[Sequence[float]], target: float, hit_rate: float) -> int:
    """Returns the fewest epochs in which a completed curve got from a hit rate to the target.

    Args:
      curves: Hit rates by epoch of trials that reached the target.
      target: The hit rate to reach.
      hit_rate: The hit rate of the current trial.

    Returns:
      Epochs; 1 if there are fewer than MIN_CURVES curves.
    """
    if len(curves) < MIN_CURVES or hit_rate >= target:
        return 0 if hit_rate >= target else 1
    fewest = math.inf
    for curve in curves:
        end = next(i for i, value in enumerate(curve) if value >= target)
        # The last epoch at which the curve was not better than this trial is now; before the
        # first epoch, every curve was at 0.
        at = max((i for i in range(end) if curve[i] <= hit_rate), default=-1)
        fewest = min(fewest, end - at)
    return int(fewest)


def projected_epochs(
    hit_rates: Sequence[float], curves: Sequence[Sequence[float]], target: float
) -> int:
    """Returns the fewest epochs that a trial can be expected to need.

    Args:
      hit_rates: Its hit rates so far, at least one.
      curves: Hit rates by epoch of trials that reached the target.
      target: The hit rate to reach.
    """
    # A curve may dip, so the best hit rate so far counts.
    return len(hit_rates) + fewest_remaining(curves, target, max(hit_rates))


def is_hopeless(
    hit_rates: Sequence[float],
    curves: Sequence[Sequence[float]],
    target: float,
    epoch_limit: float,
) -> bool:
    """Returns whether a trial should stop.

    Args:
      hit_rates: Its hit rates so far, at least one.
      curves: Hit rates by epoch of trials that reached the target.
      target: The hit rate to reach.
      epoch_limit: Epochs in which these settings would take MARGIN times the best known time.
    """
    if hit_rates[-1] >= target:
        return False
    return projected_epochs(hit_rates, curves, target) > epoch_limit
