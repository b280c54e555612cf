"""Checks of the outcome that a log states against the accuracies that it logs."""

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
    "success": "the last accuracy of a success reached the target",
    "not_before": "no earlier accuracy of a success did",
    "aborted": "no accuracy of an aborted run reached the target",
    "last_epoch": "run_stop names the last evaluated epoch, or of an aborted run the one after",
    "reason": "a success ended because of the target, an aborted run did not",
    "cap": "a run that evaluated all the epochs of its cap ended because of it, and no other run "
           "did; none goes beyond it",
    "nan_loss": "a run that ended because of its loss has none in its last epoch, which it did not "
                "evaluate"}

# Disagreements of clocks that are kept until the end of the log.
MAX_PER_LOG = 100


class OutcomeCheck(Check):
    """run_stop agrees with the logged accuracies and the target, unrounded.

    A run without a target can be no success; an aborted one is judged only by the aspects
    last_epoch and reason.
    """

    PARAMS = {"aspect": aspect_param(ASPECTS)}
    keys = ()  # everything it needs is in the summary

    def finish(self) -> None:
        if self.context.summary.is_complete:
            getattr(self, "_" + self.params["aspect"])()

    def _success(self) -> None:
        summary = self.context.summary
        if summary.status != "success":
            return
        stop_line = summary.first_events["run_stop"].line
        if summary.target is None:
            self.report(stop_line, "run_stop says success, but no target was logged that is a "
                                   "number")
            return
        if summary.last_accuracy is None:
            self.report(stop_line,
                        "run_stop says success, but no accuracy was logged that is a number")
            return
        value, line, _ = summary.last_accuracy
        if value < summary.target:
            self.report(line, f"the last accuracy is {format_value(value)}, below the target "
                              f"{format_value(summary.target)}, yet run_stop (line {stop_line}) "
                              "says success")

    def _not_before(self) -> None:
        summary = self.context.summary
        earlier = summary.best_earlier_accuracy
        if summary.status == "success" and summary.target is not None and earlier is not None \
                and earlier[0] >= summary.target:
            self.report(earlier[1], f"accuracy {format_value(earlier[0])} reached the target "
                                    f"{format_value(summary.target)} here, yet the run went on")

    def _aborted(self) -> None:
        summary = self.context.summary
        best = summary.best_accuracy
        if summary.status == "aborted" and summary.target is not None and best is not None \
                and best[0] >= summary.target:
            stop_line = summary.first_events["run_stop"].line
            self.report(best[1], f"accuracy {format_value(best[0])} reached the target "
                                 f"{format_value(summary.target)}, yet run_stop (line {stop_line}) "
                                 "says aborted")

    def _last_epoch(self) -> None:
        summary = self.context.summary
        stop = summary.first_events["run_stop"]
        epoch = stop.metadata.get("epoch_num")
        if not is_integer(epoch) and (summary.status == "success" or "epoch_num" in stop.metadata):
            self.report(stop.line, "run_stop has no whole number as metadata epoch_num")
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
                        f"run_stop has status {summary.status} and reason {summary.reason}")


    def _cap(self) -> None:
        summary, track = self.context.summary, self.context.track
        # The open division frees the track's cap.
        track_cap = track.max_epochs if track and summary.division == "closed" else None
        caps = [cap for cap in (summary.epoch_cap, track_cap) if cap]
        if not caps:
            return
        cap, stop = min(caps), summary.first_events["run_stop"]
        if summary.epoch_cap and summary.num_epochs > summary.epoch_cap:
            self.report(stop.line, f"the run began {summary.num_epochs} epochs; its configuration "
                                   f"allows {summary.epoch_cap}")
        if summary.reason == "epoch_cap" and summary.num_accuracies < cap:
            self.report(stop.line, f"run_stop says epoch_cap after {summary.num_accuracies} "
                                   f"evaluations; the cap is {cap} epochs")
        if summary.reason in NO_RUN_REASONS and summary.num_accuracies >= cap:
            self.report(stop.line, f"run_stop says {summary.reason}, but all {cap} epochs of the "
                                   "cap were evaluated: the run ended at its cap")

    def _nan_loss(self) -> None:
        summary = self.context.summary
        if summary.reason == "nan_loss" and 0 < summary.num_epochs <= summary.num_accuracies:
            self.report(summary.first_events["run_stop"].line,
                        f"run_stop says nan_loss, but all {summary.num_epochs} epochs were "
                        "evaluated")
        elif summary.reason == "nan_loss" and summary.last_loss is not None \
                and summary.num_epoch_stops >= summary.num_epochs:
            self.report(summary.first_events["run_stop"].line,
                        "run_stop says nan_loss, but the last epoch_stop has the loss "
                        f"{format_value(summary.last_loss)}")


# Two hit rates that differ in one of this many decimals are different doubles.
ACCURACY_DECIMALS = 15


class HitsCheck(Check):
    """The accuracy is a whole number of hits divided by the number of users.

    Where the stop record of the evaluation has the hits, the accuracy must be exactly their
    quotient in double precision, or that quotient rounded to 15 decimals.  Elsewhere the
    accuracy times the users must be a whole number within the (relative) tolerance.
    """

    PARAMS = {"key": text_param("the accuracy's key"),
              "users": text_param("key of the number of users"),
              "stop": text_param("key of the record whose metadata.hits may say the hits"),
              "tolerance": number_param("relative tolerance where no hits are logged")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["users"], type="positive", when=params["key"]),)

    def setup(self) -> None:
        p = self.params
        self.key, self.stop = p["key"], p["stop"]
        self.keys = (p["key"], p["users"], p["stop"])
        self.users: int | None = None
        # By epoch: (accuracy, line) and hits that wait for each other.
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
            self.report(event.line, f"the hits of epoch {oldest} still wait for their {self.key}: "
                                    f"there are more than {MAX_WAITING_EPOCHS} such epochs")

    def _compare_with_hits(self, epoch: int, value: float, line: int, hits: int) -> None:
        if self.users is None:
            return
        share = hits / self.users
        # The harness logs the rounded quotient; another program may log the exact one.
        if hits > self.users or value not in (share, round(share, ACCURACY_DECIMALS)):
            self.report(line, f"{self.key} of epoch {epoch} is {format_value(value)}, but "
                              f"{self.stop} counts {format_value(hits)} hits of "
                              f"{format_value(self.users)} users: {format_value(share)}")

    def _require_whole_hits(self, value: float, line: int) -> None:
        if self.users is None:
            return
        hits = value * self.users
        nearest = round(hits)
        allowed = self.params.get("tolerance", 1e-6) * max(nearest, 1)
        if math.isfinite(hits) and abs(hits - nearest) > allowed:
            self.report(line, f"{self.key} {format_value(value)} times {format_value(self.users)} "
                              f"users is no whole number of hits: {hits:.6g}")

    def finish(self) -> None:
        for value, line in self.accuracy.values():
            self._require_whole_hits(value, line)


class ClockCheck(Check):
    """The raw wall time in a record's metadata agrees with the record's own time."""

    PARAMS = {"key": text_param("the records' key"),
              "field": text_param("metadata name of the wall time, ms"),
              "within_s": non_negative_param("seconds of disagreement allowed"),
              "share": Param("share of the run that is allowed, too (default 0)",
                             lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["key"], f"metadata.{params['field']}", when=params["key"]),)

    def setup(self) -> None:
        self.keys = (self.params["key"],)
        # (line, key, seconds of disagreement) of records that disagree by more than within_s.
        self.disagreements: list[tuple[int, str, float]] = []

    def observe(self, event: Event) -> None:
        wall_ms = event.metadata.get(self.params["field"])
        if wall_ms is None or event.time != event.time:
            return
        # Beyond 1e17 the difference would lose its precision.
        if not is_number(wall_ms) or abs(wall_ms) > 1e17:
            self.report(event.line, f"{event.key}'s {self.params['field']} is "
                                    f"{format_value(wall_ms)}; it must be milliseconds since the "
                                    "epoch")
            return
        difference = (wall_ms - event.time) / self.context.summary.ticks_per_second
        if abs(difference) > self.params["within_s"] and len(self.disagreements) < MAX_PER_LOG:
            self.disagreements.append((event.line, event.key, difference))

    def finish(self) -> None:
        # The length of the run is known only now.
        allowed = self.params.get("share", 0) * (self.context.summary.seconds or 0)
        for line, key, difference in self.disagreements:
            if abs(difference) > allowed:
                self.report(line, f"{key}: the wall clock is {difference:+.3f} s from the "
                                  "record's own time")
