"""Checks of durations: initialization, the sum of the epochs, and time outside intervals."""

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

# At most this many intervals of one key may be open at once; a log with more is wrong.
_MAX_OPEN = 64


class WithinCheck(Check):
    """The time from the first record of each key to the last record of the next key is limited."""

    PARAMS = {"keys": texts_param("the keys, first to last"),
              "within_s": non_negative_param("the seconds allowed from each key to the next")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(key) for key in params["keys"])

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.first: dict[str, Event] = {}
        self.last: dict[str, Event] = {}

    def observe(self, event: Event) -> None:
        if event.time == event.time:  # another rule reports NaN (no time)
            self.first.setdefault(event.key, event)
            self.last[event.key] = event

    def finish(self) -> None:
        for start_key, stop_key in zip(self.keys, self.keys[1:]):
            if start_key not in self.first or stop_key not in self.last:
                continue  # `needs` reports the missing record
            start, stop = self.first[start_key], self.last[stop_key]
            if start.time > stop.time:  # out of order: count from the earliest first record
                start = min(self.first.values(), key=lambda event: event.time)
            seconds = (stop.time - start.time) / self.context.summary.ticks_per_second
            if seconds > self.params["within_s"]:
                self.report(stop.line, f"{start_key} (line {start.line}) to {stop_key} took "
                                       f"{seconds:.0f} s; at most "
                                       f"{self.params['within_s']:g} s are allowed")


class GapsCheck(Check):
    """Little time of a run is outside all intervals.

    The check counts the time during which none of the `intervals` is open: from the last record of
    `begin` to the end of the first epoch, from the end of each epoch to the end of the next, and
    from the last epoch to `end`. Each of these times is at most `share` of the epoch's time in the
    intervals of `epoch`, or `slack_s` if that is more.
    """

    PARAMS = {"intervals": texts_param("the keys of starts and stops, alternating"),
              "epoch": texts_param("the keys among them that form an epoch, in order"),
              "begin": texts_param("the keys before the first epoch that restart the count"),
              "end": text_param("the key of the record that ends the run"),
              "share": non_negative_param("the allowed share of an epoch's time"),
              "slack_s": non_negative_param("the seconds that are always allowed")}

    def setup(self) -> None:
        p = self.params
        self.stop_of = dict(zip(p["intervals"][::2], p["intervals"][1::2]))
        self.start_of = {stop: start for start, stop in self.stop_of.items()}
        self.epoch_parts, self.last = frozenset(p["epoch"]), p["epoch"][-1]
        self.keys = tuple(dict.fromkeys((*p["intervals"], *p["begin"], p["end"])))
        # The starts of the open intervals: at most one per key, except for negatives that are
        # prepared ahead.
        self.open: dict[str, list[float]] = {start: [] for start in self.stop_of}
        self.num_open = 0
        self.idle_since: float | None = None  # None before the first record
        self.idle_ticks = 0.0
        self.counted_from: Event | None = None
        self.epoch_ticks = 0.0  # of the current epoch
        self.last_epoch_ticks: float | None = None
        self.has_begun = self.has_ended = False

    def observe(self, event: Event) -> None:
        if event.time != event.time or self.has_ended:
            return  # another rule reports it
        if self.num_open == 0 and self.idle_since is not None:
            self.idle_ticks += max(0.0, event.time - self.idle_since)
        self.idle_since = event.time
        if event.key in self.stop_of:
            self._open(event)
        elif event.key in self.start_of:
            self._close(event)
        if event.key in self.params["begin"] and not self.has_begun:
            self._count_from(event)
        if event.key == self.params["end"]:
            self.has_ended = True
            self._judge(event, self.last_epoch_ticks)

    def _open(self, event: Event) -> None:
        if event.key in self.epoch_parts:
            self.has_begun = True
        if len(self.open[event.key]) < _MAX_OPEN:
            self.open[event.key].append(event.time)
            self.num_open += 1

    def _close(self, event: Event) -> None:
        starts = self.open[self.start_of[event.key]]
        if not starts:
            return  # another rule reports it
        self.num_open -= 1
        ticks = max(0.0, event.time - starts.pop())
        if event.key in self.epoch_parts:
            self.epoch_ticks += ticks
        if event.key == self.last:
            self._judge(event, self.epoch_ticks)
            self.last_epoch_ticks, self.epoch_ticks = self.epoch_ticks, 0.0
            self._count_from(event)

    def _count_from(self, event: Event) -> None:
        self.counted_from, self.idle_ticks = event, 0.0

    def _judge(self, event: Event, epoch_ticks: float | None) -> None:
        """Compares the counted time with the length of an epoch."""
        if self.counted_from is None or epoch_ticks is None:
            return  # rules about the records of an epoch report it
        idle, epoch = (ticks / self.context.summary.ticks_per_second
                       for ticks in (self.idle_ticks, epoch_ticks))
        if idle > max(epoch * self.params["share"], self.params["slack_s"]):
            self.report(event.line, f"{idle:.3f} s since {self.counted_from.key} (line "
                                    f"{self.counted_from.line}) are outside all intervals; an "
                                    f"epoch took {epoch:.3f} s")


class RunSecondsCheck(Check):
    """A run takes more than 0 seconds, and at least the sum of the seconds in its records."""

    PARAMS = {"key": text_param("the key of the records with seconds"),
              "fields": texts_param("the fields with the seconds, such as value.train_seconds"),
              "rates": texts_param("for each field the rate, used if there are no seconds"),
              "counts": texts_param("for each rate the key of the count per epoch"),
              "slack_s": non_negative_param("the seconds by which the sum may exceed the run")}

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
            self.report(line, f"the run took {seconds:.3f} s from run_start to run_stop, with "
                              f"{summary.num_accuracies} evaluations")
        elif self.sum_s > seconds + self.params["slack_s"]:
            self.report(line, f"the run took {seconds:.3f} s from run_start to run_stop, but the "
                              f"{self.num_records} {self.key} records sum to {self.sum_s:.3f} s")
