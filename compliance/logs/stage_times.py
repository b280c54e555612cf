"""Divides a run's time into stages that should add up to the whole.

  data        from run_start to the first epoch, without the other stages in that time
  sampling    drawing negatives while the run waits: outside training and evaluation, or
              during the epoch that uses them. Drawing in the background for the next epoch
              is reported separately, as overlapped.
  training    the epochs, without the sampling in them
  evaluation  the evaluations

The few milliseconds spent writing a record belong to the stage that ended. Time in no stage
is `other`. If more than 0.1% of the run is in no stage, or stages overlap by as much, a
warning is given: the log does not account for the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass

from compliance.logs.timeline import EVAL, EVAL_NEGATIVES, TRAIN, TRAIN_NEGATIVES, Span, Timeline

STAGES = ("data", "sampling", "training", "evaluation")
# Share of the run that may be in no stage.
TOLERANCE = 0.001
# Records are written between the end of a stage and the beginning of the next one. A longer
# gap is time that the log does not account for.
MAX_RECORD_GAP_S = 0.005
Interval = tuple[float, float]  # (start, stop) in seconds


@dataclass(frozen=True)
class StageTimes:
    """Seconds of each stage of one run; None if the log does not have that stage.

    Attributes:
      total: From run_start to run_stop.
      data: Reading the dataset.
      sampling: Drawing negatives while the run waits.
      training: Training, without the sampling in it.
      evaluation: Evaluation.
      overlapped: Drawing negatives in the background; part of other stages' time.
      other: The total minus all stages; negative if stages overlap.
    """

    total: float
    data: float | None
    sampling: float | None
    training: float | None
    evaluation: float | None
    overlapped: float
    other: float

    @property
    def add_up(self) -> bool:
        """Whether the stages add up to the run's time, to within 0.1%."""
        return abs(self.other) <= TOLERANCE * self.total

    def warning(self) -> str | None:
        """Returns a one-line warning if the stages do not add up, else None."""
        if self.add_up:
            return None
        share = f"{abs(self.other):.3f} s ({100 * abs(self.other) / self.total:.2f}%)" \
            if self.total > 0 else f"{abs(self.other):.3f} s"
        if self.other > 0:
            return f"{share} of the run is in no stage: the stage times do not add up to the run"
        return f"the stages overlap by {share}: they add up to more than the run"

    def as_json(self) -> dict[str, float | None | bool]:
        """Returns the `stages` object of `report --format json`."""
        return {**{f"{s}_s": getattr(self, s) for s in STAGES}, "rest_s": self.other,
                "hidden_sampling_s": self.overlapped, "add_up": self.add_up}


def merge_intervals(intervals: list[Interval]) -> list[Interval]:
    """Returns the union of the intervals as disjoint intervals, in order."""
    result: list[Interval] = []
    for start, stop in sorted(i for i in intervals if i[1] > i[0]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], stop))
        else:
            result.append((start, stop))
    return result


def covered_seconds(intervals: list[Interval]) -> float:
    """Returns the total seconds covered by the intervals."""
    return sum(stop - start for start, stop in merge_intervals(intervals))


def intersect_intervals(first: list[Interval], second: list[Interval]) -> list[Interval]:
    """Returns the intersection of both; the time is linear in their number after sorting."""
    first, second = merge_intervals(first), merge_intervals(second)
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


def _clip_to_run(spans: list[Span], run: Span) -> list[Interval]:
    """Returns the parts of the spans that are within the run."""
    return [(max(s.start, run.start), min(s.stop, run.stop)) for s in spans
            if s.stop > run.start and s.start < run.stop]


def stage_times(timeline: Timeline) -> StageTimes | None:
    """Computes the stage times of a run.

    Args:
      timeline: The timeline of one log.

    Returns:
      The times; None if the log has no run_start or no run_stop.
    """
    run = timeline.run
    if run is None or run.seconds <= 0:
        return None
    epochs, evaluations = timeline.spans_named(TRAIN), timeline.spans_named(EVAL)
    training, evaluation = _close_record_gaps(epochs, evaluations, run)
    draws = timeline.spans_named(TRAIN_NEGATIVES, EVAL_NEGATIVES)
    drawing = _clip_to_run(draws, run)
    # The run waits for draws outside training and evaluation, ...
    outside = covered_seconds(drawing) \
        - covered_seconds(intersect_intervals(drawing, training + evaluation))
    # ... and for draws during the epoch that uses them.
    in_own_epoch = _seconds_in_own_epoch(draws, epochs, run)
    sampling = outside + in_own_epoch
    # Before the first epoch, time that is neither drawing nor evaluation is data loading.
    first_epoch = min((start for start, _ in training), default=run.stop)
    before = [(run.start, first_epoch)]
    data = covered_seconds(before) \
        - covered_seconds(intersect_intervals(before, drawing + evaluation))
    trained = sum(stop - start for start, stop in training) - in_own_epoch
    evaluated = sum(stop - start for start, stop in evaluation)
    known = data + sampling + trained + evaluated
    return StageTimes(
        total=run.seconds, data=data, sampling=sampling if draws else None,
        training=trained if epochs else None, evaluation=evaluated if evaluations else None,
        overlapped=max(covered_seconds(drawing) - sampling, 0.0), other=run.seconds - known)


def _close_record_gaps(epochs: list[Span], evaluations: list[Span], run: Span
                       ) -> tuple[list[Interval], list[Interval]]:
    """Returns training and evaluation, each extended to the next one within MAX_RECORD_GAP_S."""
    found = {TRAIN: _clip_to_run(epochs, run), EVAL: _clip_to_run(evaluations, run)}
    spans = sorted((start, stop, name) for name, all_of in found.items() for start, stop in all_of)
    result: dict[str, list[Interval]] = {TRAIN: [], EVAL: []}
    for i, (start, stop, name) in enumerate(spans):
        following = spans[i + 1][0] if i + 1 < len(spans) else run.stop
        is_record_gap = 0 < following - stop <= MAX_RECORD_GAP_S
        result[name].append((start, following if is_record_gap else stop))
    return result[TRAIN], result[EVAL]


def _seconds_in_own_epoch(draws: list[Span], epochs: list[Span], run: Span) -> float:
    """Returns the seconds spent drawing for an epoch during that epoch's training."""
    by_epoch: dict[int | None, list[Span]] = {}
    for draw in draws:
        by_epoch.setdefault(draw.epoch, []).append(draw)
    return sum(
        covered_seconds(intersect_intervals(
            _clip_to_run(by_epoch.get(epoch.epoch, []), run), _clip_to_run([epoch], run)))
        for epoch in epochs if epoch.epoch is not None)
