"""Checks of values that follow from other values of the log: throughput, NDCG."""

from __future__ import annotations

import math
from typing import Any

from compliance.base.text import format_value
from compliance.checking.checks.base import (
    Check,
    field_getter,
    field_name,
    field_param,
    format_measurement,
    non_negative_param,
    text_param,
)
from compliance.checking.checks.intervals import MAX_OPEN_EPOCHS
from compliance.logs.dialects.event import Event, is_integer, is_number


class RateCheck(Check):
    """A rate agrees with the times and the counts of its log.

    The rate times the record's own seconds is the count.  These seconds (or, where the
    record has none, the count divided by the rate) are those between the start and the stop
    record of the same epoch, within a share of them and a fixed slack.
    """

    PARAMS = {"key": text_param("key of the record with the rate, once per epoch"),
              "field": field_param(), "seconds": field_param(),
              "count": text_param("key of the single record that says how much an epoch does"),
              "interval": text_param("name; NAME_start and NAME_stop of the epoch are the records"),
              "exact": non_negative_param(
                  "share by which rate x seconds may differ from the count"),
              "within": non_negative_param(
                  "share by which the seconds may differ from the interval"),
              "slack_s": non_negative_param("seconds by which they may differ besides")}
    MAX_WAITING = 100

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
        # Records that come before the single record, and records, by epoch, whose interval has
        # not ended yet.  All of them are judged once what they lack has come.
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
            if len(self.start_times) >= MAX_OPEN_EPOCHS:
                self.start_times.clear()
            self.start_times[epoch] = event.time
        elif key == self.stop:
            if epoch in self.start_times:
                if len(self.spans) >= MAX_OPEN_EPOCHS:
                    self.spans.clear()
                self.spans[epoch] = event.time - self.start_times.pop(epoch)
                early_event = self.waiting_for_interval.pop(epoch, None)
                if early_event is not None:
                    self._judge_or_wait(early_event)
        elif self.amount is not None:
            self._judge_or_wait(event)
        elif len(self.waiting_for_amount) < self.MAX_WAITING:
            self.waiting_for_amount.append(event)

    def _judge_or_wait(self, event: Event) -> None:
        """Judges a record if its interval has ended, else keeps it until then."""
        epoch = event.metadata["epoch_num"]
        if epoch in self.spans:
            self._judge(event, self.spans.pop(epoch))
        elif len(self.waiting_for_interval) < MAX_OPEN_EPOCHS:
            self.waiting_for_interval[epoch] = event
        else:
            self._judge(event, None)

    def finish(self) -> None:
        # Their intervals never ended: the rate and the seconds can still contradict each other.
        for event in self.waiting_for_interval.values():
            self._judge(event, None)

    def _judge(self, event: Event, ticks: float | None) -> None:
        """Judges one record; `ticks` is the length of its interval, None if unknown."""
        p, rate, seconds = self.params, self.rate_of(event), self.seconds_of(event)
        if not is_number(rate) or rate <= 0 or self.amount is None:
            return  # another rule reports it
        name = field_name(self.key, p.get("field", "value"))
        if is_number(seconds):
            # The seconds are logged with six decimals.
            if abs(rate * seconds - self.amount) > p["exact"] * self.amount + rate * 1e-6:
                self.report(event.line, f"{name} is {format_measurement(rate)}, times "
                                        f"{seconds:.6g} s is {format_measurement(rate * seconds)}; "
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
            self.report(event.line, f"{name} is {format_measurement(rate)}, which stands for "
                                    f"{seconds:.3f} s; from {self.start} to {self.stop} it took "
                                    f"{span:.3f} s")


class NdcgCheck(Check):
    """NDCG lies within the bounds that the hit rate of its epoch sets.

    A hit at rank r (from 0) counts ln 2 / ln(r + 2), so that NDCG lies between the hit rate
    times ln 2 / ln(k + 1) and the hit rate.
    """

    PARAMS = {"key": text_param("NDCG's key"), "accuracy": text_param("the hit rate's key"),
              "top_k": text_param("key of the single record that says k")}
    SLACK = 1e-9  # for rounding

    def setup(self) -> None:
        p = self.params
        self.key, self.accuracy = p["key"], p["accuracy"]
        self.keys = (self.key, self.accuracy, p["top_k"])
        self.least_gain: float | None = None  # of a hit at the last rank: ln 2 / ln(k + 1)
        # (key, value, line) of the record of an epoch whose other record has not come yet.
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
            if len(self.waiting) > MAX_OPEN_EPOCHS:
                # No honest log gets here: forget all epochs but this one.
                self.waiting = {epoch: self.waiting[epoch]}
        elif key == self.key:
            self._judge(value, event.line, other[1])
        else:
            self._judge(other[1], other[2], value)

    def _judge(self, ndcg: float, line: int, hit_rate: float) -> None:
        if self.least_gain is not None and not (self.least_gain * hit_rate - self.SLACK <= ndcg
                                                <= hit_rate + self.SLACK):
            self.report(line, f"{self.key} {format_value(ndcg)} is impossible beside "
                              f"{self.accuracy} {format_value(hit_rate)}: it lies between "
                              f"{self.least_gain * hit_rate:.6g} and {hit_rate:.6g}")
