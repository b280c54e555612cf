"""One set as a page needs it: roles in the score, curves, throughput by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Sequence

from compliance.logs.timeline import TRAIN, TRAIN_NEGATIVES
from compliance.report.html.limits import Point, real, short
from compliance.report.html.plots import COUNTED, FASTEST, LATE, MISSED, NONE, PLAIN, SLOWEST
from compliance.report.render import short_paths
from compliance.results.run_set import RunSet, SetRun
from compliance.results.scoring import Score

MAX_SECONDS, MAX_RATE = 1e9, 1e15
STAGE_NAMES = ("data", "sampling", "training", "evaluation", "other")


@dataclass
class Epoch:
    """What the log says of one epoch; None where it does not."""

    number: int
    seconds: float | None
    hit_rate: float
    ndcg: float | None = None
    loss: float | None = None
    throughput: float | None = None
    eval_throughput: float | None = None


@dataclass
class RunView:
    """A run, its name, what the score made of it, and its epochs."""

    name: str
    run: SetRun
    role: str
    train_samples: int | None = None
    derived: bool = field(default=False, init=False)

    @property
    def seconds(self) -> float | None:
        """Time to train."""
        return self.run.file.facts.seconds

    @property
    def tip(self) -> str:
        """The run in one line."""
        facts = self.run.file.facts
        took = "no time" if self.seconds is None else f"{self.seconds:.4g} s"
        best = f", best HR {facts.best[0]:.4g}" if facts.best else ""
        return short(f"{self.name}: {took}, {facts.accuracies} epochs{best}, {self.role}", 160)

    @cached_property
    def epochs(self) -> list[Epoch]:
        """In the log's order; seconds since run_start."""
        line = self.run.line
        start = line.run.start if line.run else 0.0
        found = [Epoch(n, real(t - start, -MAX_SECONDS, MAX_SECONDS), float(hr))
                 for n, (t, hr) in enumerate(line.hit_rates, 1)]
        said = {epoch: value for _, epoch, value in line.stats}
        base = min((e for e in said if isinstance(e, int)), default=1)
        rates = {} if said else self._derived_rates()
        self.derived = bool(rates)
        for n, epoch in enumerate(found):
            stats = said.get(base + n, {})
            epoch.ndcg = real(line.ndcg.get(base + n), 0, 1)
            epoch.loss = real(stats.get("loss"), -1e9, 1e9)
            epoch.throughput = real(stats.get("throughput"), 1e-9, MAX_RATE) or rates.get(n + 1)
            epoch.eval_throughput = real(stats.get("eval_throughput"), 1e-9, MAX_RATE)
        return found

    def _derived_rates(self) -> dict[int, float]:
        """v0.5 has no throughput: an epoch's examples over the time of its training."""
        if self.run.line.dialect != "v0.5" or not self.train_samples:
            return {}
        spent: dict[int, float] = {}
        for span in self.run.line.named(TRAIN, TRAIN_NEGATIVES):
            if span.epoch is not None:
                spent[span.epoch] = spent.get(span.epoch, 0.0) + span.seconds
        return {n: self.train_samples / s for n, s in spent.items() if s > 0}

    @cached_property
    def stages(self) -> list[float | None] | None:
        """Seconds in the order of STAGE_NAMES; None where the log cannot tell."""
        parts = self.run.stages
        if parts is None or not 0 < parts.total < MAX_SECONDS:
            return None
        return [parts.data, parts.sampling, parts.training, parts.evaluation,
                max(parts.rest, 0.0)]

    def by_epoch(self) -> list[Point]:
        """HR@k by epoch."""
        return [(e.number, e.hit_rate) for e in self.epochs if 0 <= e.hit_rate <= 1]

    def by_time(self) -> list[Point]:
        """HR@k by seconds since run_start."""
        return [(e.seconds, e.hit_rate) for e in self.epochs
                if e.seconds is not None and 0 <= e.hit_rate <= 1]

    def rates(self) -> list[Point]:
        """Training examples per second by epoch."""
        return [(e.number, e.throughput) for e in self.epochs if e.throughput]


def hit_rate_name(runs: RunSet) -> str:
    """HR@10, unless the logs agree on another k (an open track may choose one)."""
    said = {run.line.about.get("eval_top_k", (10, None))[0] for run in runs.runs
            if not isinstance(run.line.about.get("eval_top_k", (10, None))[0], (list, dict))}
    k = said.pop() if len(said) == 1 else 10
    return f"HR@{k}" if type(k) is int and 0 < k < 1e6 else "HR@10"


def total(parts: Sequence[float | None]) -> float:
    """The sum of what is known."""
    return math.fsum(part for part in parts if part is not None)


def views(runs: RunSet, score: Score) -> list[RunView]:
    """The runs of a set with their roles."""
    roles = _roles(score)
    samples = runs.track.train_samples if runs.track else None
    return [RunView(short(name, 80), run, roles.get(run.file.path) or _role(run, score), samples)
            for name, run in zip(short_paths(runs.files), runs.runs)]


def _roles(score: Score) -> dict[str, str]:
    """Path -> role of the runs that the rule took."""
    out = score.outcome
    if out.seconds is None:
        return {}
    found = dict.fromkeys(score.counted, COUNTED)
    found.update({score.runs[i].path: role for i, role in zip(out.dropped, (FASTEST, SLOWEST))})
    return found


def _role(run: SetRun, score: Score) -> str:
    if not run.is_run:
        return NONE
    if not run.converged:
        return MISSED
    return PLAIN if score.outcome.seconds is None else LATE
