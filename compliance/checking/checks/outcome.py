"""Checks of a run's outcome in the log against its logged accuracies."""

from __future__ import annotations

import math
from typing import Any

from compliance.base.text import format_value
from compliance.checking.checks.base import (
    Check,
    Need,
    Param,
    aspect_param,
    non_negative_param,
    number_param,
    text_param,
)
from compliance.checking.checks.intervals import MAX_WAITING_EPOCHS
from compliance.logs.dialects.event import Event, is_integer, is_number
from compliance.logs.keys import NO_RUN_REASONS, REASONS

# Each is a method of OutcomeCheck.
ASPECTS = {
    "success": "the last accuracy of a successful run reached the target",
    "not_before": "no earlier accuracy of a successful run reached the target",
    "aborted": "no accuracy of an aborted run reached the target",
    "last_epoch": "run_stop has the epoch of the last evaluation, or, in an aborted run, the next "
                  "epoch",
    "reason": "a successful run has the reason target, an aborted run has another reason",
    "cap": "only a run that evaluated all epochs of its cap has the reason epoch_cap; such a run "
           "is not an interrupted attempt; no run exceeds its cap",
    "nan_loss": "a run with the reason nan_loss has no loss and no evaluation in its last epoch"}

# At most this many disagreements of clocks are kept until the end of the log.
MAX_PER_LOG = 100


class OutcomeCheck(Check):
    """run_stop agrees with the logged accuracies and the target, without rounding.

    A run without a target cannot be a success. If such a run is aborted, only the aspects that do
    not use the target apply.
    """

    PARAMS = {"aspect": aspect_param(ASPECTS)}
    keys = ()  # the summary has all the facts

    def finish(self) -> None:
        if self.context.summary.is_complete:
            getattr(self, "_" + self.params["aspect"])()

    def _success(self) -> None:
        summary = self.context.summary
        if summary.status != "success":
            return
        stop_line = summary.first_events["run_stop"].line
        if summary.target is None:
            self.report(stop_line, "the status of run_stop is success, but the log has no numeric "
                                   "target")
            return
        if summary.last_accuracy is None:
            self.report(stop_line,
                        "the status of run_stop is success, but the log has no numeric accuracy")
            return
        value, line, _ = summary.last_accuracy
        if value < summary.target:
            self.report(line, f"the last accuracy is {format_value(value)}, below the target "
                              f"{format_value(summary.target)}, but the status of run_stop (line "
                              f"{stop_line}) is success")

    def _not_before(self) -> None:
        summary = self.context.summary
        earlier = summary.best_earlier_accuracy
        if summary.status == "success" and summary.target is not None and earlier is not None \
                and earlier[0] >= summary.target:
            self.report(earlier[1], f"accuracy {format_value(earlier[0])} reached the target "
                                    f"{format_value(summary.target)}, but the run continued")

    def _aborted(self) -> None:
        summary = self.context.summary
        best = summary.best_accuracy
        if summary.status == "aborted" and summary.target is not None and best is not None \
                and best[0] >= summary.target:
            stop_line = summary.first_events["run_stop"].line
            self.report(best[1], f"accuracy {format_value(best[0])} reached the target "
                                 f"{format_value(summary.target)}, but the status of run_stop "
                                 f"(line {stop_line}) is aborted")

    def _last_epoch(self) -> None:
        summary = self.context.summary
        stop = summary.first_events["run_stop"]
        epoch = stop.metadata.get("epoch_num")
        if not is_integer(epoch) and (summary.status == "success" or "epoch_num" in stop.metadata):
            self.report(stop.line, "metadata epoch_num of run_stop must be a whole number")
        if summary.last_accuracy is None or not is_integer(epoch):
            return
        _, last_line, last_epoch = summary.last_accuracy
        if not is_integer(last_epoch):
            return
        # An aborted run may have stopped in an epoch that was not evaluated.
        if epoch != last_epoch and not (summary.status == "aborted" and epoch == last_epoch + 1):
            self.report(stop.line, f"run_stop is of epoch {epoch}; the last accuracy (line "
                                   f"{last_line}) is of epoch {format_value(last_epoch)}")

    def _reason(self) -> None:
        summary = self.context.summary
        has_reached = summary.reason == "target"
        if summary.reason in REASONS and summary.status \
                and has_reached != (summary.status == "success"):
            self.report(summary.first_events["run_stop"].line,
                        f"run_stop has status {summary.status} but reason {summary.reason}")


    def _cap(self) -> None:
        summary, track = self.context.summary, self.context.track
        # The open division does not fix the cap.
        track_cap = track.max_epochs if track and summary.division == "closed" else None
        caps = [cap for cap in (summary.epoch_cap, track_cap) if cap]
        if not caps:
            return
        cap, stop = min(caps), summary.first_events["run_stop"]
        if summary.epoch_cap and summary.num_epochs > summary.epoch_cap:
            self.report(stop.line, f"epochs started: {summary.num_epochs}; max_epochs of "
                                   f"configuration is {summary.epoch_cap}")
        if summary.reason == "epoch_cap" and summary.num_accuracies < cap:
            self.report(stop.line, "the reason of run_stop is epoch_cap, but the number of "
                                   f"evaluations is {summary.num_accuracies} and the cap is {cap}")
        if summary.reason in NO_RUN_REASONS and summary.num_accuracies >= cap:
            self.report(stop.line, f"the reason of run_stop is {summary.reason}, but the run "
                                   f"evaluated every epoch of its cap: {cap}")

    def _nan_loss(self) -> None:
        summary = self.context.summary
        if summary.reason == "nan_loss" and 0 < summary.num_epochs <= summary.num_accuracies:
            self.report(summary.first_events["run_stop"].line,
                        "the reason of run_stop is nan_loss, but the last epoch was evaluated")
        elif summary.reason == "nan_loss" and summary.last_loss is not None \
                and summary.num_epoch_stops >= summary.num_epochs:
            self.report(summary.first_events["run_stop"].line,
                        "the reason of run_stop is nan_loss, but the last epoch_stop has the loss "
                        f"{format_value(summary.last_loss)}")


# Hit rates that differ within this many decimals are also different as doubles.
ACCURACY_DECIMALS = 15


class HitsCheck(Check):
    """The accuracy is a whole number of hits divided by the number of users.

    If the stop record of the evaluation has the hits, the accuracy must be exactly hits / users in
    double precision, or that quotient rounded to 15 decimals. Otherwise the accuracy times the
    users must be a whole number within the relative tolerance.
    """

    PARAMS = {"key": text_param("the accuracy's key"),
              "users": text_param("the key of the number of users"),
              "stop": text_param("the key of the record that may have metadata.hits"),
              "tolerance": number_param("the relative tolerance if no hits are logged")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["users"], type="positive", when=params["key"]),)

    def setup(self) -> None:
        p = self.params
        self.key, self.stop = p["key"], p["stop"]
        self.keys = (p["key"], p["users"], p["stop"])
        self.users: int | None = None
        # By epoch: (accuracy, line), and hits, that wait for the other value.
        self.accuracy: dict[int, tuple[float, int]] = {}
        self.hits: dict[int, int] = {}

    def observe(self, event: Event) -> None:
        if event.key == self.params["users"]:
            if self.users is None and is_integer(event.value) and event.value > 0:
                self.users = event.value
            return
        epoch = event.metadata.get("epoch_num")
        if epoch.__class__ is not int:
            return
        if event.key == self.key:
            if is_number(event.value) and 0 <= event.value <= 1:
                self.accuracy[epoch] = (event.value, event.line)
        elif "hits" in event.metadata:
            hits = event.metadata["hits"]
            if is_integer(hits) and hits >= 0:
                self.hits[epoch] = hits
            else:
                self.report(event.line, f"metadata hits of {event.key} is {format_value(hits)}; it "
                                        "must be a whole number from 0 up")
        if epoch in self.accuracy and epoch in self.hits:
            self._compare_with_hits(epoch, *self.accuracy.pop(epoch), self.hits.pop(epoch))
        if len(self.accuracy) > MAX_WAITING_EPOCHS:
            oldest = min(self.accuracy)
            self._require_whole_hits(*self.accuracy.pop(oldest))
        if len(self.hits) > MAX_WAITING_EPOCHS:
            oldest = min(self.hits)
            del self.hits[oldest]
            self.report(event.line, f"the hits of epoch {oldest} have no {self.key} yet, and more "
                                    f"than {MAX_WAITING_EPOCHS} epochs are incomplete")

    def _compare_with_hits(self, epoch: int, value: float, line: int, hits: int) -> None:
        if self.users is None:
            return
        share = hits / self.users
        # The harness logs the rounded quotient; another program may log the exact one.
        if hits > self.users or value not in (share, round(share, ACCURACY_DECIMALS)):
            self.report(line, f"{self.key} of epoch {epoch} is {format_value(value)}, but "
                              f"{self.stop} has {format_value(hits)} hits for "
                              f"{format_value(self.users)} users: {format_value(share)}")

    def _require_whole_hits(self, value: float, line: int) -> None:
        if self.users is None:
            return
        hits = value * self.users
        nearest = round(hits)
        allowed = self.params.get("tolerance", 1e-6) * max(nearest, 1)
        if math.isfinite(hits) and abs(hits - nearest) > allowed:
            self.report(line, f"{self.key} {format_value(value)} times {format_value(self.users)} "
                              f"users is not a whole number of hits: {hits:.6g}")

    def finish(self) -> None:
        for value, line in self.accuracy.values():
            self._require_whole_hits(value, line)


class ClockCheck(Check):
    """The raw wall time in a record's metadata agrees with the record's own time."""

    PARAMS = {"key": text_param("the records' key"),
              "field": text_param("the metadata name of the wall time, in ms"),
              "within_s": non_negative_param("the allowed difference in seconds"),
              "share": Param("the allowed share of the run, if that is more (default 0)",
                             lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["key"], f"metadata.{params['field']}", when=params["key"]),)

    def setup(self) -> None:
        self.keys = (self.params["key"],)
        # (line, key, difference in seconds) of records that differ by more than within_s.
        self.disagreements: list[tuple[int, str, float]] = []

    def observe(self, event: Event) -> None:
        wall_ms = event.metadata.get(self.params["field"])
        if wall_ms is None or event.time != event.time:
            return
        # Above 1e17 the difference would lose precision.
        if not is_number(wall_ms) or abs(wall_ms) > 1e17:
            self.report(event.line, f"metadata {self.params['field']} of {event.key} is "
                                    f"{format_value(wall_ms)}; it must be in milliseconds since "
                                    "the epoch")
            return
        difference = (wall_ms - event.time) / self.context.summary.ticks_per_second
        if abs(difference) > self.params["within_s"] and len(self.disagreements) < MAX_PER_LOG:
            self.disagreements.append((event.line, event.key, difference))

    def finish(self) -> None:
        # The length of the run is known only at the end.
        allowed = self.params.get("share", 0) * (self.context.summary.seconds or 0)
        for line, key, difference in self.disagreements:
            if abs(difference) > allowed:
                self.report(line, f"{key}: the wall clock differs by {difference:+.3f} s from "
                                  "the record's time")
