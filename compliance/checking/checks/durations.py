"""Checks of how long parts of a run take: initialization, and its epochs together."""

from __future__ import annotations

from typing import Any

from compliance.checking.checks.base import (
    Check,
    Need,
    field_getter,
    non_negative_param,
    text_param,
    texts_param,
)
from compliance.logs.dialects.event import Event, is_integer, is_number


class WithinCheck(Check):
    """From the first record of each key to the last record of the next key it takes at most so
    many seconds."""

    PARAMS = {"keys": texts_param("the keys, first to last"),
              "within_s": non_negative_param("seconds allowed from each key to the next")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(key) for key in params["keys"])

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.first: dict[str, Event] = {}
        self.last: dict[str, Event] = {}

    def observe(self, event: Event) -> None:
        if event.time == event.time:  # NaN, no time, breaks another rule
            self.first.setdefault(event.key, event)
            self.last[event.key] = event

    def finish(self) -> None:
        for start_key, stop_key in zip(self.keys, self.keys[1:]):
            if start_key not in self.first or stop_key not in self.last:
                continue  # the rule lacks what it needs
            start, stop = self.first[start_key], self.last[stop_key]
            if start.time > stop.time:  # out of order: from the earliest of them
                start = min(self.first.values(), key=lambda event: event.time)
            seconds = (stop.time - start.time) / self.context.summary.ticks_per_second
            if seconds > self.params["within_s"]:
                self.report(stop.line, f"from {start_key} (line {start.line}) to {stop_key} it "
                                       f"took {seconds:.0f} s; at most "
                                       f"{self.params['within_s']:g} s are allowed")


class GapsCheck(Check):
    """Between two epochs no more time passes than an epoch takes.

    From the record of `last` of an epoch to that of `first` of the next at most as many seconds
    as from `first` to `last` of the former, or `slack_s` where that is more.  The same holds
    from the last record of `begin` to the first epoch.
    """

    PARAMS = {"first": text_param("key of an epoch's first record"),
              "last": text_param("key of an epoch's last record"),
              "begin": texts_param("keys of records that stand before the first epoch"),
              "slack_s": non_negative_param("seconds that may always pass")}

    def setup(self) -> None:
        self.keys = (self.params["first"], self.params["last"], *self.params["begin"])
        self.before: Event | None = None  # the record from which the gap is measured
        self.start: Event | None = None  # of the epoch at hand
        self.epoch_ticks: float | None = None  # how long the epoch before took

    def observe(self, event: Event) -> None:
        if event.time != event.time:
            return  # another rule reports it
        if event.key == self.params["first"]:
            if self.epoch_ticks is not None:
                self._judge(event, self.epoch_ticks)
            self.start = event
        elif event.key == self.params["last"]:
            if self.start is not None:
                ticks = event.time - self.start.time
                if self.epoch_ticks is None:  # before the first epoch, whose length is known now
                    self._judge(self.start, ticks)
                self.epoch_ticks = ticks
            self.before = event
        elif self.start is None:
            self.before = event

    def _judge(self, start: Event, epoch_ticks: float) -> None:
        """Compares the time before an epoch with the length of an epoch."""
        if self.before is None:
            return  # rules about the records before an epoch report it
        gap, epoch = ((ticks / self.context.summary.ticks_per_second) for ticks in (
            start.time - self.before.time, epoch_ticks))
        if gap > max(epoch, self.params["slack_s"]):
            self.report(start.line, f"{gap:.3f} s passed since {self.before.key} (line "
                                    f"{self.before.line}); an epoch took {epoch:.3f} s")


class RunSecondsCheck(Check):
    """A run takes time, and at least the seconds that its records say they took."""

    PARAMS = {"key": text_param("key of the records that say seconds"),
              "fields": texts_param("the fields with the seconds, such as value.train_seconds"),
              "rates": texts_param("for each field the rate, used where there are no seconds"),
              "counts": texts_param("for each rate the key of the count of which it is the rate"),
              "slack_s": non_negative_param("seconds by which their sum may exceed the run")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(count, type="positive", when=params["key"])
                     for count in params["counts"])

    def setup(self) -> None:
        p = self.params
        self.key, self.count_keys = p["key"], p["counts"]
        self.keys = (self.key, *self.count_keys)
        self.getters = [(field_getter(seconds), field_getter(rate))
                        for seconds, rate in zip(p["fields"], p["rates"])]
        self.sum_s, self.num_records = 0.0, 0
        # For each count the sum of 1 / rate over the records without seconds.
        self.inverse_rates = dict.fromkeys(self.count_keys, 0.0)
        self.counts: dict[str, int] = {}

    def observe(self, event: Event) -> None:
        if event.key != self.key:
            if is_integer(event.value):
                self.counts.setdefault(event.key, event.value)
            return
        self.num_records += 1
        for (get_seconds, get_rate), count_key in zip(self.getters, self.count_keys):
            seconds, rate = get_seconds(event), get_rate(event)
            if is_number(seconds) and seconds > 0:
                self.sum_s += seconds
            elif is_number(rate) and rate > 0:
                self.inverse_rates[count_key] += 1 / rate

    def finish(self) -> None:
        summary = self.context.summary
        seconds = summary.seconds
        if seconds is None:
            return  # rules about run_start and run_stop report it
        line = summary.first_events["run_stop"].line
        self.sum_s += sum(inverse * self.counts.get(key, 0)
                          for key, inverse in self.inverse_rates.items())
        if seconds <= 0 and summary.num_accuracies:
            self.report(line, f"from run_start to run_stop it took {seconds:.3f} s, with "
                              f"{summary.num_accuracies} evaluations in it")
        elif self.sum_s > seconds + self.params["slack_s"]:
            self.report(line, f"from run_start to run_stop it took {seconds:.3f} s, but the "
                              f"{self.num_records} {self.key} records say {self.sum_s:.3f} s")
