"""Checks of values that are determined by other values: throughput, NDCG, masked candidates."""

from __future__ import annotations

import math
from typing import Any

from compliance.base.text import format_value
from compliance.checking.checks.base import (
    ABSENT,
    Check,
    Need,
    field_getter,
    field_name,
    field_param,
    format_measurement,
    non_negative_param,
    text_param,
)
from compliance.checking.checks.intervals import MAX_WAITING_EPOCHS
from compliance.logs.dialects.event import Event, is_integer, is_number

# The records about the drawing of evaluation candidates.
_WITH_REPLACEMENT = "eval_negatives_with_replacement"
_DRAW_COUNTS = {"users": "eval_num_users", "draws": "eval_num_negatives",
                "items": "dataset_num_items", "positives": "dataset_num_positives"}


class RateCheck(Check):
    """A rate agrees with the times and counts in the log.

    The rate times the record's own seconds is the count. These seconds (or, if the record has
    none, the count divided by the rate) equal the time from the start to the stop record of the
    same epoch, within a share of that time plus a fixed slack.
    """

    PARAMS = {"key": text_param("the key of the record with the rate, once per epoch"),
              "field": field_param(), "seconds": field_param(),
              "count": text_param("the key of the single record with the count per epoch"),
              "interval": text_param("the name; the records are NAME_start and NAME_stop"),
              "exact": non_negative_param(
                  "the share by which rate x seconds may differ from the count"),
              "within": non_negative_param(
                  "the share by which the seconds may differ from the interval"),
              "slack_s": non_negative_param("the seconds by which they may differ in addition")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["count"], type="positive", when=params["key"]),)

    def setup(self) -> None:
        p = self.params
        self.key, self.count = p["key"], p["count"]
        self.start, self.stop = f"{p['interval']}_start", f"{p['interval']}_stop"
        self.keys = (self.key, self.count, self.start, self.stop)
        self.rate_of = field_getter(p.get("field", "value"))
        self.seconds_of = field_getter(p["seconds"]) if "seconds" in p else lambda event: None
        self.amount: int | None = None  # the value of the single record
        self.start_times: dict[Any, float] = {}  # of open intervals, by epoch, in ticks
        self.spans: dict[Any, float] = {}  # lengths of closed intervals, by epoch, in ticks
        # Records that wait for the single record, and records, by epoch, that wait for the end of
        # their interval.
        self.waiting_for_amount: list[Event] = []
        self.waiting_for_interval: dict[int, Event] = {}

    def observe(self, event: Event) -> None:
        key = event.key
        if key == self.count:
            if self.amount is None and is_integer(event.value) and event.value > 0:
                self.amount = event.value
                for early_event in self.waiting_for_amount:
                    self._judge_or_wait(early_event)
            return
        epoch = event.metadata.get("epoch_num")
        if epoch.__class__ is not int:
            return
        if key == self.start:
            if len(self.start_times) >= MAX_WAITING_EPOCHS:
                self.start_times.clear()
            self.start_times[epoch] = event.time
        elif key == self.stop:
            if epoch in self.start_times:
                if len(self.spans) >= MAX_WAITING_EPOCHS:
                    self.spans.clear()
                self.spans[epoch] = event.time - self.start_times.pop(epoch)
                early_event = self.waiting_for_interval.pop(epoch, None)
                if early_event is not None:
                    self._judge_or_wait(early_event)
        elif self.amount is not None:
            self._judge_or_wait(event)
        elif len(self.waiting_for_amount) < MAX_WAITING_EPOCHS:
            self.waiting_for_amount.append(event)
        else:
            self.report(event.line, f"more than {MAX_WAITING_EPOCHS} {self.key} records come "
                                    f"before {self.count}")

    def _judge_or_wait(self, event: Event) -> None:
        """Checks a record if its interval has ended, else keeps it until then."""
        epoch = event.metadata["epoch_num"]
        if epoch in self.spans:
            self._judge(event, self.spans.pop(epoch))
        elif len(self.waiting_for_interval) < MAX_WAITING_EPOCHS \
                and epoch not in self.waiting_for_interval:
            self.waiting_for_interval[epoch] = event
        else:
            self._report_no_interval(event)

    def finish(self) -> None:
        if self.context.summary.is_complete:
            for event in self.waiting_for_interval.values():
                self._report_no_interval(event)

    def _report_no_interval(self, event: Event) -> None:
        """Reports a record whose epoch has no interval to compare with."""
        self._judge(event, None)
        self.report(event.line, f"{self.key} of epoch {event.metadata['epoch_num']} has no "
                                f"{self.start} and {self.stop} to compare it with")

    def _judge(self, event: Event, ticks: float | None) -> None:
        """Checks one record; `ticks` is the length of its interval, None if unknown."""
        p, rate, seconds = self.params, self.rate_of(event), self.seconds_of(event)
        if not is_number(rate) or rate <= 0 or self.amount is None:
            return  # another rule reports it
        name = field_name(self.key, p.get("field", "value"))
        if is_number(seconds):
            # The seconds are logged with six decimals.
            if abs(rate * seconds - self.amount) > p["exact"] * self.amount + rate * 1e-6:
                self.report(event.line, f"{name} {format_measurement(rate)} x {seconds:.6g} s = "
                                        f"{format_measurement(rate * seconds)}; "
                                        f"{self.count} is {self.amount}")
                return
        else:
            seconds = self.amount / rate
        if ticks is None or ticks != ticks:
            return
        span = ticks / self.context.summary.ticks_per_second
        if span < 0:
            return  # the rule about time reports it
        if abs(seconds - span) > p["within"] * span + p["slack_s"]:
            self.report(event.line, f"{name} is {format_measurement(rate)}, which implies "
                                    f"{seconds:.3f} s; {self.start} to {self.stop} took "
                                    f"{span:.3f} s")


class NdcgCheck(Check):
    """NDCG is within the bounds given by the hit rate of its epoch.

    A hit at rank r (from 0) counts ln 2 / ln(r + 2), so NDCG is between the hit rate times
    ln 2 / ln(k + 1) and the hit rate.
    """

    PARAMS = {"key": text_param("NDCG's key"), "accuracy": text_param("the hit rate's key"),
              "top_k": text_param("the key of the single record with k")}
    SLACK = 1e-9  # for rounding

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["top_k"], type="positive", when=params["key"]),)

    def setup(self) -> None:
        p = self.params
        self.key, self.accuracy = p["key"], p["accuracy"]
        self.keys = (self.key, self.accuracy, p["top_k"])
        self.least_gain: float | None = None  # for a hit at the last rank: ln 2 / ln(k + 1)
        # By epoch, the record that waits for the other one: (key, value, line).
        self.waiting: dict[int, tuple[str, float, int]] = {}

    def observe(self, event: Event) -> None:
        key, value = event.key, event.value
        if key not in (self.key, self.accuracy):
            if self.least_gain is None and is_integer(value) and 0 < value < 10 ** 9:
                self.least_gain = math.log(2) / math.log(value + 1)
            return
        epoch = event.metadata.get("epoch_num")
        if epoch.__class__ is not int or not is_number(value):
            return
        other = self.waiting.pop(epoch, None)
        if other is None or other[0] == key:
            self.waiting[epoch] = (key, value, event.line)
            if len(self.waiting) > MAX_WAITING_EPOCHS:
                oldest_key, _, line = self.waiting.pop(min(self.waiting))
                self.report(line, f"{oldest_key} has no other record of its epoch yet, and more "
                                  f"than {MAX_WAITING_EPOCHS} epochs are incomplete")
        elif key == self.key:
            self._judge(value, event.line, other[1])
        else:
            self._judge(other[1], other[2], value)

    def _judge(self, ndcg: float, line: int, hit_rate: float) -> None:
        if self.least_gain is not None and not (self.least_gain * hit_rate - self.SLACK <= ndcg
                                                <= hit_rate + self.SLACK):
            self.report(line, f"{self.key} is {format_value(ndcg)}; with "
                              f"{self.accuracy} {format_value(hit_rate)} it must be between "
                              f"{self.least_gain * hit_rate:.6g} and {hit_rate:.6g}")


# The mean number of candidates is logged to six decimals.
_MEAN_TOLERANCE = 1e-5


class MaskedShareCheck(Check):
    """The share of masked candidates is about that of uniform draws with replacement.

    A user has n = items - positives / users candidates on average. A draw is masked if it repeats
    another draw or is the held-out item. Of m draws, the expected share of masked ones is
    1 - (n - 1) (1 - (1 - 1/n)^m) / m. The check ignores a log without the number of masked
    candidates, and a log whose lists were drawn without replacement. If the log has the mean
    number of candidates per user, it must be 1 (the held-out item) plus m minus the masked draws
    per user.
    """

    PARAMS = {"key": text_param("the key of the record with the number of masked candidates"),
              "field": field_param(),
              "mean": text_param("the field with the mean number of candidates per user, if any"),
              "within": non_negative_param("the allowed difference of the shares")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(_WITH_REPLACEMENT, type="boolean", when=params["key"]),
                *(Need(key, type="positive", when=params["key"])
                  for key in _DRAW_COUNTS.values()))

    def setup(self) -> None:
        self.key = self.params["key"]
        self.keys = (self.key, _WITH_REPLACEMENT, *_DRAW_COUNTS.values())
        self.get = field_getter(self.params.get("field", "value"))
        self.first_values: dict[str, Any] = {}
        self.masked: tuple[int, int] | None = None  # (candidates, line)
        self.get_mean = field_getter(self.params["mean"])
        self.mean: Any = ABSENT

    def observe(self, event: Event) -> None:
        if event.key != self.key:
            self.first_values.setdefault(event.key, event.value)
            return
        count = self.get(event)
        if count is ABSENT or self.masked is not None:
            return
        self.mean = self.get_mean(event)
        if is_integer(count) and count >= 0:
            self.masked = (count, event.line)
        else:
            self.report(event.line, f"{field_name(self.key, self.params['field'])} is "
                                    f"{format_value(count)}; it must be a whole number from 0 up")

    def finish(self) -> None:
        counts = {name: self.first_values.get(key) for name, key in _DRAW_COUNTS.items()}
        self._check_mean(counts["users"], counts["draws"])
        if self.masked is None or self.first_values.get(_WITH_REPLACEMENT) is not True \
                or not all(is_integer(x) and x > 0 for x in counts.values()):
            return
        masked, line = self.masked
        users, draws = counts["users"], counts["draws"]
        candidates = max(counts["items"] - counts["positives"] / users, 1.0)
        distinct = (candidates - 1) * -math.expm1(draws * math.log1p(-1 / candidates)) \
            if candidates > 1 else 0.0
        expected, share = 1 - distinct / draws, masked / (users * draws)
        if abs(share - expected) > self.params["within"]:
            self.report(line, f"the share of masked candidates is {share:.3f} "
                              f"({format_value(masked)}); uniform draws give about {expected:.3f}")

    def _check_mean(self, users: Any, draws: Any) -> None:
        if self.masked is None or self.mean is ABSENT \
                or not all(is_integer(x) and x > 0 for x in (users, draws)):
            return
        expected = 1 + draws - self.masked[0] / users
        if not is_number(self.mean) or abs(self.mean - expected) > _MEAN_TOLERANCE:
            self.report(self.masked[1], f"{field_name(self.key, self.params['mean'])} is "
                                        f"{format_value(self.mean)}; the number of masked "
                                        f"candidates implies {expected:.6f}")
