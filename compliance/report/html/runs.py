"""The runs of a set for a page: roles in the score, epochs, curves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Sequence

from compliance.logs.timeline import TRAIN, TRAIN_NEGATIVES
from compliance.report.html.limits import PlotPoint, clip_text, number_within
from compliance.report.html.plot_style import (
    CONVERGED,
    COUNTED,
    FASTEST,
    INTERRUPTED,
    NOT_CONVERGED,
    NOT_TAKEN,
    SLOWEST,
)
from compliance.report.render import log_names
from compliance.results.run_set import RunSet, SetRun
from compliance.results.scoring import Score

MAX_SECONDS, MAX_RATE = 1e9, 1e15
STAGE_NAMES = ("data", "sampling", "training", "evaluation", "other")


@dataclass
class EpochView:
    """The figures of one epoch; None if the log does not contain the figure.

    Attributes:
      number: The epoch, from 1.
      seconds: Seconds from run_start to the evaluation.
      hit_rate: HR@k.
      ndcg: NDCG@k.
      loss: The mean training loss.
      throughput: Training examples per second.
      eval_throughput: Evaluated pairs per second.
    """

    number: int
    seconds: float | None
    hit_rate: float
    ndcg: float | None = None
    loss: float | None = None
    throughput: float | None = None
    eval_throughput: float | None = None


@dataclass
class RunView:
    """One run for a page.

    Attributes:
      name: The log's name within the set.
      run: The log.
      role: Its role under the scoring rule, one of ROLES.
      train_samples: Training examples in an epoch of the track; None if unknown.
      has_derived_throughput: Whether throughput was computed here because the log has none.
    """

    name: str
    run: SetRun
    role: str
    train_samples: int | None = None
    has_derived_throughput: bool = field(default=False, init=False)

    @property
    def seconds(self) -> float | None:
        """Time to train in seconds."""
        return self.run.file.summary.seconds

    @property
    def tooltip(self) -> str:
        """The run in one line."""
        facts = self.run.file.summary
        took = "no time" if self.seconds is None else f"{self.seconds:.4g} s"
        best = f", best HR {facts.best_accuracy[0]:.4g}" if facts.best_accuracy else ""
        epochs = f"{facts.num_accuracies} epoch{'s' * (facts.num_accuracies != 1)}"
        return clip_text(f"{self.name}: {took}, {epochs}{best}, {self.role}", 160)

    @cached_property
    def epochs(self) -> list[EpochView]:
        """The epochs in the log's order."""
        timeline = self.run.timeline
        start = timeline.run.start if timeline.run else 0.0
        found = [EpochView(n, number_within(t - start, -MAX_SECONDS, MAX_SECONDS), float(hr))
                 for n, (t, hr) in enumerate(timeline.hit_rates, 1)]
        stats_by_epoch = {epoch: value for _, epoch, value in timeline.epoch_stats}
        first_epoch = min((e for e in stats_by_epoch if isinstance(e, int)), default=1)
        rates = {} if stats_by_epoch else self._derived_rates()
        self.has_derived_throughput = bool(rates)
        for n, epoch in enumerate(found):
            stats = stats_by_epoch.get(first_epoch + n, {})
            epoch.ndcg = number_within(timeline.ndcg.get(first_epoch + n), 0, 1)
            epoch.loss = number_within(stats.get("loss"), -1e9, 1e9)
            epoch.throughput = number_within(stats.get("throughput"), 1e-9, MAX_RATE) \
                or rates.get(n + 1)
            epoch.eval_throughput = number_within(stats.get("eval_throughput"), 1e-9, MAX_RATE)
        return found

    def _derived_rates(self) -> dict[int, float]:
        """Computes throughput for v0.5 logs: examples of an epoch over its training time."""
        if self.run.timeline.dialect != "v0.5" or not self.train_samples:
            return {}
        spent: dict[int, float] = {}
        for span in self.run.timeline.spans_named(TRAIN, TRAIN_NEGATIVES):
            if span.epoch is not None:
                spent[span.epoch] = spent.get(span.epoch, 0.0) + span.seconds
        return {n: self.train_samples / s for n, s in spent.items() if s > 0}

    @cached_property
    def stages(self) -> list[float | None] | None:
        """Seconds of each of STAGE_NAMES; None if the log has no complete run."""
        times = self.run.stages
        if times is None or not 0 < times.total < MAX_SECONDS:
            return None
        return [times.data, times.sampling, times.training, times.evaluation, max(times.other, 0.0)]

    def hit_rates_by_epoch(self) -> list[PlotPoint]:
        """Returns (epoch, HR@k)."""
        return [(e.number, e.hit_rate) for e in self.epochs if 0 <= e.hit_rate <= 1]

    def hit_rates_by_time(self) -> list[PlotPoint]:
        """Returns (seconds since run_start, HR@k)."""
        return [(e.seconds, e.hit_rate) for e in self.epochs
                if e.seconds is not None and 0 <= e.hit_rate <= 1]

    def ndcgs_by_epoch(self) -> list[PlotPoint]:
        """Returns (epoch, NDCG@k)."""
        return [(e.number, e.ndcg) for e in self.epochs if e.ndcg is not None]

    def losses_by_epoch(self) -> list[PlotPoint]:
        """Returns (epoch, mean training loss)."""
        return [(e.number, e.loss) for e in self.epochs if e.loss is not None]

    def throughput_by_epoch(self) -> list[PlotPoint]:
        """Returns (epoch, training examples per second)."""
        return [(e.number, e.throughput) for e in self.epochs if e.throughput]


def hit_rate_name(run_set: RunSet) -> str:
    """Returns "HR@10", or the name with another k if all logs agree on one (in open tracks)."""
    values = [run.timeline.descriptions.get("eval_top_k", (10, None))[0] for run in run_set.runs]
    # Lists and objects, which an invalid log may contain, cannot be members of a set.
    logged = {value for value in values if not isinstance(value, (list, dict))}
    k = logged.pop() if len(logged) == 1 else 10
    return f"HR@{k}" if type(k) is int and 0 < k < 1e6 else "HR@10"


def sum_known(stage_seconds: Sequence[float | None]) -> float:
    """Returns the sum of the values that are not None."""
    return math.fsum(part for part in stage_seconds if part is not None)


def run_views(run_set: RunSet, score: Score) -> list[RunView]:
    """Makes the views of a set's runs.

    Args:
      run_set: The set.
      score: Its score, which decides the runs' roles.

    Returns:
      One view for each log, in the set's order.
    """
    roles = _roles_in_mean(score)
    train_samples = run_set.track.train_samples if run_set.track else None
    return [RunView(clip_text(name, 80), run,
                    roles.get(run.file.path) or _role_outside_mean(run, score), train_samples)
            for name, run in zip(log_names(run_set.files), run_set.runs)]


def _roles_in_mean(score: Score) -> dict[str, str]:
    """Returns path -> role of the runs that the scoring rule used."""
    result = score.result
    if result.seconds is None:
        return {}
    found = dict.fromkeys(score.counted, COUNTED)
    roles = zip(result.dropped_indices, (FASTEST, SLOWEST))
    found.update({score.runs[i].path: role for i, role in roles})
    return found


def _role_outside_mean(run: SetRun, score: Score) -> str:
    """Returns the role of a run that the scoring rule did not use."""
    if not run.is_complete_run:
        return INTERRUPTED
    if not run.converged:
        return NOT_CONVERGED
    return CONVERGED if score.result.seconds is None else NOT_TAKEN
