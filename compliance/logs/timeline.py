"""When what happened in one run: intervals, hit rates and settings out of its log.

`check` judges a log record by record; this reads it once more for what lies
between the records: `report`, `compare`, `convergence` and `trace` need it.
All times are seconds since the first record of the log.

MLLOG and v0.6 say where an interval begins and ends.  v0.5 has only beginnings:
there an epoch's training lasts from `train_epoch` to `eval_start`, its evaluation
from `eval_start` to `eval_stop`, and negatives are a stage of their own only
where they are drawn between an `eval_stop` and the next `train_epoch`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.logs.dialects import Event, LogReader
from compliance.logs.dialects.event import is_integer, is_number, show
from compliance.logs.keys import POINT, TAGS, V05_TAGS

# No honest run comes near it; beyond, spans are no longer kept.
MAX_SPANS = 100_000
# Names of the spans.
RUN, INIT, TRAIN, EVAL, TRAIN_NEGATIVES, EVAL_NEGATIVES = (
    "run", "init", "epoch", "eval", "train_neg_gen", "eval_neg_gen")
_NAMES = frozenset((RUN, INIT, TRAIN, EVAL, TRAIN_NEGATIVES, EVAL_NEGATIVES))
# v0.5 tags and the MLLOG keys that say the same.
V05_SETTINGS = {
    "input_batch_size": "global_batch_size", "opt_learning_rate": "opt_base_learning_rate",
    "opt_name": "opt_name", "opt_hp_Adam_beta1": "opt_adam_beta_1",
    "opt_hp_Adam_beta2": "opt_adam_beta_2", "opt_hp_Adam_epsilon": "opt_adam_epsilon",
    "model_hp_mf_dim": "model_mf_dim"}
SETTINGS = frozenset((
    "global_batch_size", "eval_batch_size", "opt_name", "opt_base_learning_rate",
    "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon", "engine", "precision", "device",
    "submission_division", "submission_platform", "model_mf_dim", "cache_clear"))
# What else describes a run: every tag that is no measurement, and what v0.5 has for it.
_MEASURED = frozenset(("eval_accuracy", "eval_ndcg"))
ABOUT = frozenset(t.key for t in TAGS.values() if t.kind == POINT and t.stage != "run") \
    - _MEASURED | frozenset(V05_TAGS) - frozenset(("eval_accuracy", "eval_size", "mllog"))


@dataclass(frozen=True)
class Span:
    """An interval; `epoch` is None where it belongs to none; seconds."""

    name: str
    epoch: int | None
    start: float
    stop: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stop - self.start


@dataclass
class Timeline:
    """One run.  `hit_rates`: (seconds, value) in the log's order.

    `stats`: (seconds, epoch, the object of tracked_stats).  `open`: spans that
    the log begins and never ends, which `spans` holds up to the last record.
    `ndcg`: NDCG@k by epoch.  `about`: (value, metadata) of the first record of each
    key of ABOUT, cut to what a page can show.
    """

    path: str
    dialect: str | None = None
    end: float = 0.0
    spans: list[Span] = field(default_factory=list)
    open: list[Span] = field(default_factory=list)
    hit_rates: list[tuple[float, float]] = field(default_factory=list)
    stats: list[tuple[float, Any, dict[str, Any]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    ndcg: dict[Any, float] = field(default_factory=dict)
    about: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def named(self, *names: str) -> list[Span]:
        """The spans of these names, in the order of their beginning."""
        return sorted((s for s in self.spans if s.name in names), key=lambda s: (s.start, s.stop))

    @property
    def run(self) -> Span | None:
        """From run_start to run_stop, where the log has both."""
        return next((s for s in self.spans if s.name == RUN and s not in self.open), None)

    @property
    def batch_size(self) -> int | None:
        """Training examples per step over all devices."""
        value = self.settings.get("global_batch_size")
        return value if is_integer(value) and value > 0 else None

    def epochs_to(self, target: float | None) -> int | None:
        """Evaluations until the first that reached the target, unrounded; or None."""
        if target is None:
            return None
        return next((n for n, (_, hr) in enumerate(self.hit_rates, 1) if hr >= target), None)


def cut(value: Any, deep: bool = True) -> Any:
    """A JSON value as far as a page shows it: 64 members, texts of 300 characters."""
    if isinstance(value, str):
        return value if len(value) <= 300 else value[:300] + "..."
    if isinstance(value, (dict, list)) and not deep:
        return show(value)
    if isinstance(value, list):
        return [cut(item, False) for item in value[:64]]
    if isinstance(value, dict):
        return {key[:100]: cut(item, False) for key, item in list(value.items())[:64]}
    return value


class _Builder:
    def __init__(self, line: Timeline, ticks: int) -> None:
        self.line, self.ticks = line, ticks
        self.origin: float | None = None
        self.pending: dict[tuple[str, int | None], float] = {}
        self.closed: set[tuple[str, int | None]] = set()
        self.epoch: int | None = None

    def see(self, event: Event) -> None:
        if event.key in ABOUT and event.key not in self.line.about:
            self.line.about[event.key] = (cut(event.value), cut(event.meta))
        if event.time != event.time:
            # What is measured counts although its time is unknown; intervals do not.
            self._timeless(event)
            return
        if self.origin is None:
            self.origin = event.time
        now = (event.time - self.origin) / self.ticks
        self.line.end = max(self.line.end, now)
        if self.line.dialect == "v0.5":
            self._v05(event, now)
        else:
            self._mllog(event, now)

    def _timeless(self, event: Event) -> None:
        if event.key == "eval_accuracy":
            self._accuracy(event.meta.get("value") if self.line.dialect == "v0.5"
                           else event.value, self.line.end)
        elif event.key in SETTINGS:
            self._setting(event.key, event.value)

    def _start(self, name: str, epoch: int | None, now: float) -> None:
        if (name, epoch) not in self.closed and len(self.pending) < MAX_SPANS:
            self.pending.setdefault((name, epoch), now)

    def _stop(self, name: str, epoch: int | None, now: float) -> None:
        start = self.pending.pop((name, epoch), None)
        # Several hosts may write the same interval: the first pair counts.
        if start is not None and len(self.line.spans) < MAX_SPANS:
            self.closed.add((name, epoch))
            self.line.spans.append(Span(name, epoch, start, now))

    def _setting(self, key: str, value: Any) -> None:
        if isinstance(value, (str, int, float, bool)):
            self.line.settings.setdefault(key, value)

    def _mllog(self, event: Event, now: float) -> None:
        name, _, edge = event.key.rpartition("_")
        epoch = event.meta.get("epoch_num")
        epoch = epoch if is_integer(epoch) else None
        if name in _NAMES and edge in ("start", "stop"):
            # run_stop names the last epoch; run_start cannot.
            epoch = None if name in (RUN, INIT, EVAL_NEGATIVES) else epoch
            (self._start if edge == "start" else self._stop)(name, epoch, now)
        elif event.key == "eval_accuracy":
            self._accuracy(event.value, now)
        elif event.key == "eval_ndcg" and is_number(event.value) and len(self.line.ndcg) < MAX_SPANS:
            self.line.ndcg.setdefault(epoch, event.value)
        elif event.key == "tracked_stats" and isinstance(event.value, dict):
            if len(self.line.stats) < MAX_SPANS:
                self.line.stats.append((now, epoch, event.value))
        elif event.key in SETTINGS:
            self._setting(event.key, event.value)

    def _accuracy(self, value: Any, now: float) -> None:
        if is_number(value) and len(self.line.hit_rates) < MAX_SPANS:
            self.line.hit_rates.append((now, value))

    def _v05(self, event: Event, now: float) -> None:
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
                and (TRAIN, self.epoch) not in self.pending \
                and (EVAL, self.epoch) not in self.pending:
            self._start(TRAIN_NEGATIVES, self.epoch + 1, now)
        elif key == "eval_accuracy":
            self._accuracy(event.meta.get("value"), now)
        elif key in V05_SETTINGS:
            self._setting(V05_SETTINGS[key], event.value)

    def _close_epoch(self, now: float) -> None:
        for name, epoch in ((TRAIN_NEGATIVES, (self.epoch or 0) + 1), (EVAL, self.epoch),
                            (TRAIN, self.epoch)):
            self._stop(name, epoch, now)

    def finish(self) -> None:
        """Closes what the log left open at its last record."""
        for (name, epoch), start in self.pending.items():
            span = Span(name, epoch, start, self.line.end)
            self.line.spans.append(span)
            self.line.open.append(span)


def read_timeline(path: Path | str) -> Timeline:
    """The timeline of one log.  Raises OSError; nothing in the log raises."""
    reader = LogReader(path)
    line = Timeline(str(path))
    builder: _Builder | None = None
    for item in reader:
        if not isinstance(item, Event):
            continue
        if builder is None and reader.dialect is not None:
            line.dialect = reader.dialect.name
            builder = _Builder(line, reader.dialect.ticks)
        if builder is not None:
            builder.see(item)
    if builder is not None:
        builder.finish()
    return line
