"""Collects the facts of a run from its log: times, accuracies, outcome.

The facts do not depend on the ruleset, and nothing is judged here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from compliance.logs.dialects.event import Event, is_integer, is_number
from compliance.logs.epoch_times import EpochTimes

# (value, line of the file, epoch number as logged) of an accuracy record.
AccuracyRecord = tuple[float, int, Any]
# Measurements are kept for at most this many epochs; a real run has far fewer.
MAX_MEASURED_EPOCHS = 1000
# The v0.5 tag under which this harness writes an MLLOG event that v0.5 has no tag for.
V05_MLLOG_TAG = "mllog"


@dataclass
class Measurements:
    """The measurements of a run in epoch order; no two runs have equal measurements.

    Attributes:
      losses: The mean training losses.
      hit_rates: The accuracies.
      ndcgs: The NDCG of the evaluations.
      train_seconds: The seconds of training.
      eval_seconds: The seconds of evaluation.
    """

    losses: list[float] = field(default_factory=list)
    hit_rates: list[float] = field(default_factory=list)
    ndcgs: list[float] = field(default_factory=list)
    train_seconds: list[float] = field(default_factory=list)
    eval_seconds: list[float] = field(default_factory=list)


class RunSummary:
    """The facts of one run, collected event by event in constant memory.

    If a record that should appear once appears several times, the first one counts.

    Attributes:
      ticks_per_second: The unit of the events' times.
      first_events: The first event of each key of KEPT_KEYS.
      num_accuracies: The number of eval_accuracy records, whatever their values.
      last_accuracy: The last eval_accuracy record whose value is a finite number.
      best_accuracy: The eval_accuracy record with the highest value.
      best_earlier_accuracy: The record with the highest value, excluding the last record.
      num_epochs: The number of epoch_start records.
      num_epoch_stops: The number of epoch_stop records.
      last_loss: The loss in the last epoch_stop; None if it is not a number.
      measurements: The measurements of each epoch.
      epoch_times: The seconds of each epoch, by the times of the records.
    """

    KEPT_KEYS = frozenset((
        "run_start", "run_stop", "eval_target", "seed", "run_set_random_seed", "track",
        "submission_division", "submission_benchmark", "submission_platform", "run_final",
        "attempt", "configuration", "data_digests", "checkpoint"))

    # The keys of the events that `observe` uses; it ignores all others.
    KEYS = (*sorted(KEPT_KEYS), V05_MLLOG_TAG, "eval_accuracy", "eval_ndcg", "epoch_start",
            "epoch_stop", "tracked_stats", "train_epoch", "eval_stop")
    # Without losses, curves of fewer hit rates may be equal by chance.
    MIN_CURVE_ACCURACIES = 3

    def __init__(self, dialect: str, ticks_per_second: int) -> None:
        """Creates the summary of an empty log.

        Args:
          dialect: The dialect's name.
          ticks_per_second: The dialect's unit of time.
        """
        self.ticks_per_second = ticks_per_second
        self.first_events: dict[str, Event] = {}
        self.num_accuracies = 0
        self.last_accuracy: AccuracyRecord | None = None
        self.best_accuracy: AccuracyRecord | None = None
        self.best_earlier_accuracy: AccuracyRecord | None = None
        self._is_v05, self._is_v06 = dialect == "v0.5", dialect == "v0.6"
        self.num_epochs = self.num_epoch_stops = 0
        self.last_loss: float | None = None
        self.measurements = Measurements()
        self.epoch_times = EpochTimes(ticks_per_second)
        self._curve = hashlib.sha256()
        self._num_losses = 0
        self._v05_track: str | None = None

    def observe(self, event: Event) -> None:
        """Processes the next event of the log."""
        key = event.key
        if key in EpochTimes.KEYS:
            self.epoch_times.observe(event)
        if key in self.KEPT_KEYS:
            first = self.first_events.setdefault(key, event)
            # In v0.6 one host may write a record without a time and another host with a time.
            if self._is_v06 and first.time != first.time:
                self.first_events[key] = event
        elif key == "eval_accuracy":
            self.num_accuracies += 1
            self._observe_accuracy(event)
        elif key == "epoch_start":
            self.num_epochs += 1
        elif key == "epoch_stop":
            self.num_epoch_stops += 1
            loss = event.metadata.get("loss")
            self.last_loss = loss if is_number(loss) else None
        elif key == V05_MLLOG_TAG:
            self._observe_mllog_tag(event)
        elif key == "eval_ndcg":
            if is_number(event.value):
                _keep(self.measurements.ndcgs, event.value)
        elif key == "tracked_stats" and isinstance(event.value, dict):
            loss = event.value.get("loss")
            if is_number(loss):
                self._num_losses += 1
                self._curve.update(f"loss {loss!r};".encode())
                _keep(self.measurements.losses, loss)
            for name, kept in (("train_seconds", self.measurements.train_seconds),
                               ("eval_seconds", self.measurements.eval_seconds)):
                if is_number(event.value.get(name)):
                    _keep(kept, event.value[name])

    def _observe_accuracy(self, event: Event) -> None:
        if self._is_v05:
            value, epoch = event.metadata.get("value"), event.metadata.get("epoch")
        else:
            value, epoch = event.value, event.metadata.get("epoch_num")
        if not is_number(value):
            return
        self._curve.update(f"accuracy {value!r};".encode())
        _keep(self.measurements.hit_rates, value)
        record = (value, event.line, epoch)
        # The best record up to here is the best before this one, which is now the last.
        self.best_earlier_accuracy = self.best_accuracy
        if self.best_accuracy is None or value > self.best_accuracy[0]:
            self.best_accuracy = record
        self.last_accuracy = record

    def _observe_mllog_tag(self, event: Event) -> None:
        """Keeps the first track that a v0.5 log of this harness names."""
        if self._is_v05 and isinstance(event.value, dict) and event.value.get("key") == "track" \
                and isinstance(event.value.get("value"), str) and self._v05_track is None:
            self._v05_track = event.value["value"]

    @property
    def curve(self) -> str | None:
        """Digest of the losses and hit rates in order; None if two runs may agree by chance."""
        has_enough = self._num_losses or self.num_accuracies >= self.MIN_CURVE_ACCURACIES
        return self._curve.hexdigest() if has_enough else None

    def _value(self, key: str) -> Any:
        """The value of the first event of a key, or None."""
        return self.first_events[key].value if key in self.first_events else None

    def _text(self, key: str) -> str | None:
        """The value of the first event of a key if it is text, or None."""
        value = self._value(key)
        return value if isinstance(value, str) else None

    @property
    def is_complete(self) -> bool:
        """Whether the log has a run_stop."""
        return "run_stop" in self.first_events

    @property
    def status(self) -> str | None:
        """The status in run_stop: success or aborted, else None."""
        if not self.is_complete:
            return None
        metadata = self.first_events["run_stop"].metadata
        if self._is_v05:
            return {True: "success", False: "aborted"}.get(metadata.get("success")) \
                if isinstance(metadata.get("success"), bool) else None
        status = metadata.get("status")
        return status if status in ("success", "aborted") else None

    @property
    def reason(self) -> str | None:
        """The reason in run_stop, or None."""
        value = self.first_events["run_stop"].metadata.get("reason") if self.is_complete else None
        return value if isinstance(value, str) else None

    @property
    def is_profiled(self) -> bool:
        """Whether a profiler ran during the run; such a run is never scored."""
        return self._is_marked("profiled")

    @property
    def is_synthetic(self) -> bool:
        """Whether the batches were synthetic; such a run is never scored."""
        return self._is_marked("synthetic_batches")

    def _is_marked(self, name: str) -> bool:
        """Whether run_start's metadata or the configuration sets this flag."""
        start, configuration = self.first_events.get("run_start"), self._value("configuration")
        return start is not None and bool(start.metadata.get(name)) \
            or isinstance(configuration, dict) and bool(configuration.get(name))

    @property
    def target(self) -> float | None:
        """The target in the log."""
        value = self._value("eval_target")
        if isinstance(value, dict):
            value = value.get("value")
        return value if is_number(value) else None

    @property
    def track(self) -> str | None:
        """The name of the track in the log."""
        return self._v05_track if self._is_v05 else self._text("track")

    @property
    def division(self) -> str | None:
        """The division in the log."""
        return self._text("submission_division")

    @property
    def benchmark(self) -> str | None:
        """The benchmark in the log (MLLOG)."""
        return self._text("submission_benchmark")

    @property
    def seed(self) -> int | None:
        """The run's seed."""
        value = self._value("run_set_random_seed") if self._is_v05 else None
        value = self._value("seed") if value is None else value
        return value if is_integer(value) else None

    @property
    def epoch_cap(self) -> int | None:
        """The epoch cap in the logged configuration, or None."""
        configuration = self._value("configuration")
        value = configuration.get("max_epochs") if isinstance(configuration, dict) else None
        return value if is_integer(value) and value > 0 else None

    @property
    def stated_required_runs(self) -> Any:
        """`required_runs` of the logged configuration, of any type; None if there is none."""
        configuration = self._value("configuration")
        return configuration.get("required_runs") if isinstance(configuration, dict) else None

    @property
    def required_runs(self) -> int | None:
        """The number of runs for which the set was begun, in the logged configuration, or None."""
        value = self.stated_required_runs
        return value if is_integer(value) and value > 0 else None

    @property
    def attempt(self) -> tuple[str, int] | None:
        """(set, number) of the attempt in the log, or None."""
        value = self._value("attempt")
        if not isinstance(value, dict):
            return None
        name, number = value.get("set"), value.get("attempt")
        return (name, number) if isinstance(name, str) and is_integer(number) else None

    def time(self, key: str) -> float | None:
        """Returns the time of the first event of a key, or None.

        Args:
          key: One of KEPT_KEYS.

        Returns:
          Seconds since 1970.
        """
        event = self.first_events.get(key)
        if event is None or event.time != event.time:
            return None
        return event.time if self.ticks_per_second == 1 else event.time / self.ticks_per_second

    @property
    def seconds(self) -> float | None:
        """The run's duration: run_stop minus run_start."""
        start, stop = self.first_events.get("run_start"), self.first_events.get("run_stop")
        if start is None or stop is None or start.time != start.time or stop.time != stop.time:
            return None
        # Subtract before dividing: the difference of whole milliseconds is exact.
        span = stop.time - start.time
        return span if self.ticks_per_second == 1 else span / self.ticks_per_second

    @property
    def converged(self) -> bool | None:
        """Whether the best accuracy, unrounded, reached the target in the log.

        An MLLOG run whose status is not success has not converged. None if the log has no
        target or no run_stop.
        """
        if self.target is None or not self.is_complete:
            return None
        reached = self.best_accuracy is not None and self.best_accuracy[0] >= self.target
        return reached if self._is_v05 else reached and self.status == "success"

    def as_json(self) -> dict[str, Any]:
        """Returns the `run` object of `check --format json`."""
        return {"start_s": self.time("run_start"), "stop_s": self.time("run_stop"),
                "seconds": self.seconds, "status": self.status, "epochs": self.num_accuracies,
                "final_accuracy": self.last_accuracy[0] if self.last_accuracy else None,
                "best_accuracy": self.best_accuracy[0] if self.best_accuracy else None,
                "target": self.target, "converged": self.converged, "seed": self.seed}


def _keep(values: list[float], value: float) -> None:
    """Adds a measurement, up to MAX_MEASURED_EPOCHS of them."""
    if len(values) < MAX_MEASURED_EPOCHS:
        values.append(value)
