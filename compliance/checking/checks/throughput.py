"""Checks of figures that are computed from others: throughput, NDCG."""

from __future__ import annotations

import math
from typing import Any

from compliance.checking.checks.base import Param, field_param, figure, getter, name_of, word
from compliance.checking.checks.intervals import WINDOW
from compliance.checking.checks.records import _Base
from compliance.logs.dialects.event import Event, is_integer, is_number, show


def _share(meaning: str, required: bool = True) -> Param:
    return Param(meaning, lambda v: is_number(v) and v >= 0, "a number from 0 up", required)


class Rate(_Base):
    """A rate agrees with the times and the counts of its log.

    The rate times the record's own seconds is the count; and these seconds (or, where
    the record has none, the count divided by the rate) are those between the start and
    the stop record of the same epoch, within a share of them and a fixed slack.
    """

    PARAMS = {"key": word("key of the record with the rate, once per epoch"),
              "field": field_param(), "seconds": field_param(),
              "count": word("key of the single record that says how much an epoch does"),
              "interval": word("name; NAME_start and NAME_stop of the epoch are the records"),
              "exact": _share("share by which rate x seconds may differ from the count"),
              "within": _share("share by which the seconds may differ from the interval"),
              "slack_s": _share("seconds by which they may differ besides")}
    WAITING = 100

    def setup(self) -> None:
        p = self.params
        self.key, self.count = p["key"], p["count"]
        self.start, self.stop = f"{p['interval']}_start", f"{p['interval']}_stop"
        self.keys = (self.key, self.count, self.start, self.stop)
        self.rate_of = getter(p.get("field", "value"))
        self.seconds_of = getter(p["seconds"]) if "seconds" in p else lambda event: None
        self.amount: int | None = None
        self.begun: dict[Any, float] = {}
        self.spans: dict[Any, float] = {}
        self.waiting: list[tuple[Event, float | None]] = []  # seen before the count

    def see(self, event: Event) -> None:
        key = event.key
        if key == self.count:
            if self.amount is None and is_integer(event.value) and event.value > 0:
                self.amount = event.value
                for early, span in self.waiting:
                    self._judge(early, span)
            return
        epoch = event.meta.get("epoch_num")
        if epoch.__class__ is not int:
            return
        if key == self.start:
            if len(self.begun) >= WINDOW:
                self.begun.clear()
            self.begun[epoch] = event.time
        elif key == self.stop:
            if epoch in self.begun:
                if len(self.spans) >= WINDOW:
                    self.spans.clear()
                self.spans[epoch] = event.time - self.begun.pop(epoch)
        elif self.amount is not None:
            self._judge(event, self.spans.pop(epoch, None))
        elif len(self.waiting) < self.WAITING:
            self.waiting.append((event, self.spans.pop(epoch, None)))

    def _judge(self, event: Event, ticks: float | None) -> None:
        p, rate, seconds = self.params, self.rate_of(event), self.seconds_of(event)
        if not is_number(rate) or rate <= 0 or self.amount is None:
            return  # another rule says so
        name = name_of(self.key, p.get("field", "value"))
        if is_number(seconds):
            # Seconds are logged in microseconds.
            if abs(rate * seconds - self.amount) > p["exact"] * self.amount + rate * 1e-6:
                self.report(event.line, f"{name} is {figure(rate)}, times {seconds:.6g} s is "
                                        f"{figure(rate * seconds)}; {self.count} is {self.amount}")
                return
        else:
            seconds = self.amount / rate
        if ticks is None or ticks != ticks:
            return
        span = ticks / self.context.ticks
        if span < 0:
            return  # the rule about time says so
        if abs(seconds - span) > p["within"] * span + p["slack_s"]:
            self.report(event.line, f"{name} is {figure(rate)}, which stands for "
                                    f"{seconds:.3f} s; from {self.start} to {self.stop} it took "
                                    f"{span:.3f} s")


class Ndcg(_Base):
    """NDCG is possible beside the hit rate of its epoch.

    A hit at rank r (from 0) counts ln 2 / ln(r + 2), so that NDCG lies between the hit
    rate times ln 2 / ln(k + 1) and the hit rate.
    """

    PARAMS = {"key": word("NDCG's key"), "accuracy": word("the hit rate's key"),
              "top_k": word("key of the single record that says k")}
    SLACK = 1e-9

    def setup(self) -> None:
        p = self.params
        self.key, self.accuracy = p["key"], p["accuracy"]
        self.keys = (self.key, self.accuracy, p["top_k"])
        self.least: float | None = None
        self.seen: dict[int, tuple[str, float, int]] = {}

    def see(self, event: Event) -> None:
        key, value = event.key, event.value
        if key not in (self.key, self.accuracy):
            if self.least is None and is_integer(value) and 0 < value < 10 ** 9:
                self.least = math.log(2) / math.log(value + 1)
            return
        epoch = event.meta.get("epoch_num")
        if epoch.__class__ is not int or not is_number(value):
            return
        other = self.seen.pop(epoch, None)
        if other is None or other[0] == key:
            self.seen[epoch] = (key, value, event.line)
            if len(self.seen) > WINDOW:
                self.seen = {epoch: self.seen[epoch]}
        elif key == self.key:
            self._judge(value, event.line, other[1])
        else:
            self._judge(other[1], other[2], value)

    def _judge(self, ndcg: float, line: int, hits: float) -> None:
        if self.least is not None and not (self.least * hits - self.SLACK <= ndcg
                                           <= hits + self.SLACK):
            self.report(line, f"{self.key} {show(ndcg)} is impossible beside {self.accuracy} "
                              f"{show(hits)}: it lies between {self.least * hits:.6g} and {hits:.6g}")
