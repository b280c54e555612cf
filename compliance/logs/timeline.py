"""Reads the timeline of one run from its log: intervals, hit rates, statistics and settings.

`check` judges a log record by record. This module reads the log again for the intervals
between records, which `report`, `compare`, `convergence` and `trace` need. All times are
seconds since the first record of the log.

MLLOG and v0.6 log the beginning and the end of an interval. v0.5 logs only beginnings:
the training of an epoch lasts from `train_epoch` to `eval_start`, its evaluation from
`eval_start` to `eval_stop`, and drawing negatives is a separate interval only if it begins
between an `eval_stop` and the next `train_epoch`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.base.text import format_value
from compliance.logs.dialects import Event, LogReader
from compliance.logs.dialects.event import is_integer, is_number
from compliance.logs.keys import LOG_KEYS, POINT, V05_TAGS

# Further spans, hit rates and statistics are dropped; a real run has far fewer.
MAX_SPANS = 100_000
# Names of the spans: the MLLOG keys without _start and _stop.
RUN, INIT, TRAIN, EVAL, TRAIN_NEGATIVES, EVAL_NEGATIVES = (
    "run", "init", "epoch", "eval", "train_neg_gen", "eval_neg_gen")
_NAMES = frozenset((RUN, INIT, TRAIN, EVAL, TRAIN_NEGATIVES, EVAL_NEGATIVES))
# v0.5 tags -> the MLLOG keys of the same settings.
V05_SETTINGS = {
    "input_batch_size": "global_batch_size", "opt_learning_rate": "opt_base_learning_rate",
    "opt_name": "opt_name", "opt_hp_Adam_beta1": "opt_adam_beta_1",
    "opt_hp_Adam_beta2": "opt_adam_beta_2", "opt_hp_Adam_epsilon": "opt_adam_epsilon",
    "model_hp_mf_dim": "model_mf_dim"}
SETTINGS = frozenset((
    "global_batch_size", "eval_batch_size", "opt_name", "opt_base_learning_rate",
    "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon", "engine", "precision", "device",
    "submission_division", "submission_platform", "model_mf_dim", "cache_clear"))
_MEASURED_KEYS = frozenset(("eval_accuracy", "eval_ndcg"))
# Keys that describe a run: every point-in-time key except measurements, and the v0.5 tags.
DESCRIPTIVE_KEYS = \
    frozenset(k.key for k in LOG_KEYS.values() if k.kind == POINT and k.stage != "run") \
    - _MEASURED_KEYS | frozenset(V05_TAGS) - frozenset(("eval_accuracy", "eval_size", "mllog"))
# Limits on the characters and members of a description, so that it fits on a page.
_MAX_TEXT, _MAX_KEY, _MAX_MEMBERS = 300, 100, 64


@dataclass(frozen=True)
class Span:
    """An interval of a run.

    Attributes:
      name: One of RUN, INIT, TRAIN, EVAL, TRAIN_NEGATIVES, EVAL_NEGATIVES.
      epoch: The epoch's number; None if the interval belongs to no epoch.
      start: Seconds since the first record.
      stop: Seconds since the first record.
    """

    name: str
    epoch: int | None
    start: float
    stop: float

    @property
    def seconds(self) -> float:
        """The interval's length."""
        return self.stop - self.start


@dataclass
class Timeline:
    """The timeline of one run.

    Attributes:
      path: The log.
      dialect: Its dialect; None if no record could be read.
      end: The time of the latest record.
      spans: All intervals.
      unfinished: The intervals that the log begins but does not end; in `spans` they last
        until the latest record.
      hit_rates: (time, HR@k) of each evaluation, in the order of the log.
      epoch_stats: (time, epoch, value) of each tracked_stats record.
      settings: The first value of each key of SETTINGS.
      ndcg: NDCG@k by epoch.
      descriptions: (value, metadata) of the first record of each key of DESCRIPTIVE_KEYS,
        abbreviated.
    """

    path: str
    dialect: str | None = None
    end: float = 0.0
    spans: list[Span] = field(default_factory=list)
    unfinished: list[Span] = field(default_factory=list)
    hit_rates: list[tuple[float, float]] = field(default_factory=list)
    epoch_stats: list[tuple[float, Any, dict[str, Any]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    ndcg: dict[Any, float] = field(default_factory=dict)
    descriptions: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def spans_named(self, *names: str) -> list[Span]:
        """Returns the spans with these names, ordered by start."""
        return sorted((s for s in self.spans if s.name in names), key=lambda s: (s.start, s.stop))

    @property
    def run(self) -> Span | None:
        """From run_start to run_stop; None if either record is missing."""
        return next((s for s in self.spans if s.name == RUN and s not in self.unfinished), None)

    @property
    def batch_size(self) -> int | None:
        """Training examples per step over all devices."""
        value = self.settings.get("global_batch_size")
        return value if is_integer(value) and value > 0 else None

    def epochs_to(self, target: float | None) -> int | None:
        """Returns the number of evaluations up to the first that reached the target.

        Args:
          target: A hit rate, compared unrounded; None if there is no target.

        Returns:
          The number, from 1; None if no evaluation reached the target.
        """
        if target is None:
            return None
        return next((n for n, (_, hr) in enumerate(self.hit_rates, 1) if hr >= target), None)


def _abbreviate(value: Any, is_top: bool = True) -> Any:
    """Shortens long texts, lists and objects; nested lists and objects become text."""
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "..."
    if isinstance(value, (dict, list)) and not is_top:
        return format_value(value)
    if isinstance(value, list):
        return [_abbreviate(item, False) for item in value[:_MAX_MEMBERS]]
    if isinstance(value, dict):
        return {key[:_MAX_KEY]: _abbreviate(item, False)
                for key, item in list(value.items())[:_MAX_MEMBERS]}
    return value


class _TimelineBuilder:
    """Fills a timeline event by event."""

    def __init__(self, timeline: Timeline, ticks_per_second: int) -> None:
        self.timeline, self.ticks_per_second = timeline, ticks_per_second
        self.origin: float | None = None  # time of the first record that has one, in ticks
        # (name, epoch) -> start of the open intervals, and (name, epoch) of the closed ones.
        self.open_spans: dict[tuple[str, int | None], float] = {}
        self.closed: set[tuple[str, int | None]] = set()
        self.epoch: int | None = None  # v0.5: the current epoch, counted from 1

    def observe(self, event: Event) -> None:
        """Processes the next event of the log."""
        if event.key in DESCRIPTIVE_KEYS and event.key not in self.timeline.descriptions:
            self.timeline.descriptions[event.key] = (
                _abbreviate(event.value), _abbreviate(event.metadata))
        if event.time != event.time:
            # A measurement without a time counts; an interval without a time does not.
            self._observe_without_time(event)
            return
        if self.origin is None:
            self.origin = event.time
        now = (event.time - self.origin) / self.ticks_per_second
        self.timeline.end = max(self.timeline.end, now)
        if self.timeline.dialect == "v0.5":
            self._observe_v05(event, now)
        else:
            self._observe_mllog(event, now)

    def _observe_without_time(self, event: Event) -> None:
        if event.key == "eval_accuracy":
            self._add_accuracy(event.metadata.get("value") if self.timeline.dialect == "v0.5"
                               else event.value, self.timeline.end)
        elif event.key in SETTINGS:
            self._add_setting(event.key, event.value)

    def _start(self, name: str, epoch: int | None, now: float) -> None:
        if (name, epoch) not in self.closed and len(self.open_spans) < MAX_SPANS:
            self.open_spans.setdefault((name, epoch), now)

    def _stop(self, name: str, epoch: int | None, now: float) -> None:
        start = self.open_spans.pop((name, epoch), None)
        # Several hosts may log the same interval: the first start and the first stop count.
        if start is not None and len(self.timeline.spans) < MAX_SPANS:
            self.closed.add((name, epoch))
            self.timeline.spans.append(Span(name, epoch, start, now))

    def _add_setting(self, key: str, value: Any) -> None:
        if isinstance(value, (str, int, float, bool)):
            self.timeline.settings.setdefault(key, value)

    def _observe_mllog(self, event: Event, now: float) -> None:
        timeline = self.timeline
        name, _, edge = event.key.rpartition("_")
        epoch = event.metadata.get("epoch_num")
        epoch = epoch if is_integer(epoch) else None
        if name in _NAMES and edge in ("start", "stop"):
            # run_stop has an epoch_num and run_start has none, so it is dropped: they must match.
            epoch = None if name in (RUN, INIT, EVAL_NEGATIVES) else epoch
            (self._start if edge == "start" else self._stop)(name, epoch, now)
        elif event.key == "eval_accuracy":
            self._add_accuracy(event.value, now)
        elif event.key == "eval_ndcg" and is_number(event.value) \
                and len(timeline.ndcg) < MAX_SPANS:
            timeline.ndcg.setdefault(epoch, event.value)
        elif event.key == "tracked_stats" and isinstance(event.value, dict):
            if len(timeline.epoch_stats) < MAX_SPANS:
                timeline.epoch_stats.append((now, epoch, event.value))
        elif event.key in SETTINGS:
            self._add_setting(event.key, event.value)

    def _add_accuracy(self, value: Any, now: float) -> None:
        if is_number(value) and len(self.timeline.hit_rates) < MAX_SPANS:
            self.timeline.hit_rates.append((now, value))

    def _observe_v05(self, event: Event, now: float) -> None:
        key = event.key
        if key in ("run_start", "run_stop"):
            if key == "run_stop":
                self._close_epoch(now)
            (self._start if key == "run_start" else self._stop)(RUN, None, now)
        elif key == "train_epoch":
            self._close_epoch(now)
            self.epoch = (self.epoch or 0) + 1
            self._start(TRAIN, self.epoch, now)
        elif key == "eval_start":
            self._stop(TRAIN, self.epoch, now)
            self._start(EVAL, self.epoch, now)
        elif key == "eval_stop":
            self._stop(EVAL, self.epoch, now)
        elif key == "input_step_train_neg_gen" and self.epoch is not None \
                and (TRAIN, self.epoch) not in self.open_spans \
                and (EVAL, self.epoch) not in self.open_spans:
            # Between two epochs: the run waits for the negatives of the next epoch.
            self._start(TRAIN_NEGATIVES, self.epoch + 1, now)
        elif key == "eval_accuracy":
            self._add_accuracy(event.metadata.get("value"), now)
        elif key in V05_SETTINGS:
            self._add_setting(V05_SETTINGS[key], event.value)

    def _close_epoch(self, now: float) -> None:
        """Ends the open intervals of the current epoch (v0.5)."""
        for name, epoch in ((TRAIN_NEGATIVES, (self.epoch or 0) + 1), (EVAL, self.epoch),
                            (TRAIN, self.epoch)):
            self._stop(name, epoch, now)

    def finish(self) -> None:
        """Ends the open intervals at the latest record."""
        for (name, epoch), start in self.open_spans.items():
            span = Span(name, epoch, start, self.timeline.end)
            self.timeline.spans.append(span)
            self.timeline.unfinished.append(span)


def read_timeline(path: Path | str) -> Timeline:
    """Reads the timeline of one log.

    Args:
      path: The log, of any dialect.

    Raises:
      OSError: The file cannot be read. The contents of the log never raise.
    """
    reader = LogReader(path)
    timeline = Timeline(str(path))
    builder: _TimelineBuilder | None = None
    for item in reader:
        if not isinstance(item, Event):
            continue
        if builder is None and reader.dialect is not None:
            timeline.dialect = reader.dialect.name
            builder = _TimelineBuilder(timeline, reader.dialect.ticks_per_second)
        if builder is not None:
            builder.observe(item)
    if builder is not None:
        builder.finish()
    return timeline
