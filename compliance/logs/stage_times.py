"""Where a run's time went: stages that should add up to the whole.

  data        from run_start to the first epoch, less other stages in it
  sampling    drawing of negatives that the run waits for: outside training and
              evaluation, or within the very epoch that it is for.  What is drawn
              in the background for the next epoch is told apart as `hidden`.
  training    the epochs, less the sampling in them
  evaluation  the evaluations

The few milliseconds in which a record is written count to the stage that ended.
What no stage covers is `rest`.  A rest of more than 0.1% of the run, or stages
that overlap by as much, is a warning: the log does not account for its time.
"""

from __future__ import annotations

from dataclasses import dataclass

from compliance.logs.timeline import EVAL, EVAL_NEGATIVES, TRAIN, TRAIN_NEGATIVES, Span, Timeline

STAGES = ("data", "sampling", "training", "evaluation")
TOLERANCE = 0.001
# Between the record that ends a stage and the one that begins the next lies the
# writing of records; a longer gap is time that the log does not account for.
RECORD_S = 0.005
Interval = tuple[float, float]


@dataclass(frozen=True)
class StageTimes:
    """Seconds of each stage of one run; None where the log cannot tell.

    `total` is run_stop less run_start, `rest` what the stages leave over
    (negative where they overlap).
    """

    total: float
    data: float | None
    sampling: float | None
    training: float | None
    evaluation: float | None
    hidden: float
    rest: float

    @property
    def add_up(self) -> bool:
        """Whether the stages are the run's time to within 0.1%."""
        return abs(self.rest) <= TOLERANCE * self.total

    def warning(self) -> str | None:
        """One line where they do not add up."""
        if self.add_up:
            return None
        share = f"{abs(self.rest):.3f} s ({100 * abs(self.rest) / self.total:.2f}%)" \
            if self.total > 0 else f"{abs(self.rest):.3f} s"
        if self.rest > 0:
            return f"{share} of the run is in no stage: the stage times do not add up to it"
        return f"the stages overlap by {share}: they add up to more than the run"

    def as_json(self) -> dict[str, float | None | bool]:
        """Seconds by stage, with whether they add up."""
        return {**{f"{s}_s": getattr(self, s) for s in STAGES}, "rest_s": self.rest,
                "hidden_sampling_s": self.hidden, "add_up": self.add_up}


def union(intervals: list[Interval]) -> list[Interval]:
    """The same instants as disjoint intervals in order."""
    result: list[Interval] = []
    for start, stop in sorted(i for i in intervals if i[1] > i[0]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], stop))
        else:
            result.append((start, stop))
    return result


def length(intervals: list[Interval]) -> float:
    """Seconds that the intervals cover together."""
    return sum(stop - start for start, stop in union(intervals))


def common(first: list[Interval], second: list[Interval]) -> list[Interval]:
    """The instants that are in both; linear in their number once sorted."""
    first, second = union(first), union(second)
    result, i, j = [], 0, 0
    while i < len(first) and j < len(second):
        start, stop = max(first[i][0], second[j][0]), min(first[i][1], second[j][1])
        if stop > start:
            result.append((start, stop))
        if first[i][1] < second[j][1]:
            i += 1
        else:
            j += 1
    return result


def _within(spans: list[Span], run: Span) -> list[Interval]:
    return [(max(s.start, run.start), min(s.stop, run.stop)) for s in spans
            if s.stop > run.start and s.start < run.stop]


def stage_times(line: Timeline) -> StageTimes | None:
    """The run's stages; None where the log has no run_start or no run_stop."""
    run = line.run
    if run is None or run.seconds <= 0:
        return None
    epochs, evaluations = line.named(TRAIN), line.named(EVAL)
    training, evaluation = _joined(epochs, evaluations, run)
    draws = line.named(TRAIN_NEGATIVES, EVAL_NEGATIVES)
    drawing = _within(draws, run)
    busy = training + evaluation
    outside = length(drawing) - length(common(drawing, busy))
    own = _in_own_epoch(draws, epochs, run)
    sampling = outside + own
    first = min((start for start, _ in training), default=run.stop)
    before = [(run.start, first)]
    data = length(before) - length(common(before, drawing + evaluation))
    trained = sum(stop - start for start, stop in training) - own
    evaluated = sum(stop - start for start, stop in evaluation)
    known = data + sampling + trained + evaluated
    return StageTimes(
        total=run.seconds, data=data, sampling=sampling if draws else None,
        training=trained if epochs else None, evaluation=evaluated if evaluations else None,
        hidden=max(length(drawing) - sampling, 0.0), rest=run.seconds - known)


def _joined(epochs: list[Span], evaluations: list[Span], run: Span
            ) -> tuple[list[Interval], list[Interval]]:
    """Training and evaluation, each up to what follows within RECORD_S."""
    found = {TRAIN: _within(epochs, run), EVAL: _within(evaluations, run)}
    spans = sorted((start, stop, name) for name, all_of in found.items() for start, stop in all_of)
    result: dict[str, list[Interval]] = {TRAIN: [], EVAL: []}
    for i, (start, stop, name) in enumerate(spans):
        following = spans[i + 1][0] if i + 1 < len(spans) else run.stop
        result[name].append((start, following if 0 < following - stop <= RECORD_S else stop))
    return result[TRAIN], result[EVAL]


def _in_own_epoch(draws: list[Span], epochs: list[Span], run: Span) -> float:
    """Seconds of drawing for an epoch while that epoch's training was under way."""
    by_epoch: dict[int | None, list[Span]] = {}
    for draw in draws:
        by_epoch.setdefault(draw.epoch, []).append(draw)
    return sum(length(common(_within(by_epoch.get(epoch.epoch, []), run), _within([epoch], run)))
               for epoch in epochs if epoch.epoch is not None)
