"""Checks of the outcome against what was measured."""

from __future__ import annotations

import math

from compliance.checking.checks.base import Param, choice, number, word
from compliance.checking.checks.records import _Base
from compliance.logs.dialects.event import Event, is_integer, is_number, show
from compliance.logs.keys import REASONS

ASPECTS = {
    "success": "a success has its last accuracy at the target or above",
    "not_before": "no accuracy before the last of a success reached the target",
    "aborted": "no accuracy of an aborted run reached the target",
    "last_epoch": "the run stops in the epoch of its last accuracy, or an aborted one in the next",
    "reason": "a success gives no reason but the target, and an aborted run another"}


class Outcome(_Base):
    """run_stop agrees with the measured accuracies and the target, unrounded.

    Aspects: success (its last accuracy reached the target), not_before (and none
    earlier did), aborted (no accuracy reached it), last_epoch (run_stop names the
    last evaluated epoch; of an aborted run that or the one after), reason (a success
    ended because of the target, an aborted run did not).  A log without a target is
    judged by the last two alone.
    """

    PARAMS = {"aspect": choice("what must agree", ASPECTS, required=True)}
    keys = ()

    def end(self) -> None:
        if self.context.facts.complete:
            getattr(self, "_" + self.params["aspect"])()

    def _success(self) -> None:
        facts = self.context.facts
        if facts.status != "success" or facts.target is None:
            return
        stop = facts.first["run_stop"].line
        if facts.last is None:
            self.report(stop, "run_stop says success, but no accuracy was logged that is a number")
        elif facts.last[0] < facts.target:
            self.report(facts.last[1],
                        f"the last accuracy is {show(facts.last[0])}, below the target "
                        f"{show(facts.target)}, yet run_stop (line {stop}) says success")

    def _not_before(self) -> None:
        facts = self.context.facts
        earlier = facts.best_before
        if facts.status == "success" and facts.target is not None and earlier is not None \
                and earlier[0] >= facts.target:
            self.report(earlier[1], f"accuracy {show(earlier[0])} reached the target "
                                    f"{show(facts.target)} here, yet the run went on")

    def _aborted(self) -> None:
        facts = self.context.facts
        if facts.status == "aborted" and facts.target is not None and facts.best is not None \
                and facts.best[0] >= facts.target:
            stop = facts.first["run_stop"].line
            self.report(facts.best[1],
                        f"accuracy {show(facts.best[0])} reached the target "
                        f"{show(facts.target)}, yet run_stop (line {stop}) says aborted")

    def _last_epoch(self) -> None:
        facts = self.context.facts
        stop = facts.first["run_stop"]
        epoch = stop.meta.get("epoch_num")
        if not is_integer(epoch) and (facts.status == "success" or "epoch_num" in stop.meta):
            self.report(stop.line, "run_stop has no whole number as metadata epoch_num")
        if facts.last is None or not is_integer(epoch) or not is_integer(facts.last[2]):
            return
        last = facts.last[2]
        if epoch != last and not (facts.status == "aborted" and epoch == last + 1):
            self.report(stop.line, f"run_stop is of epoch {epoch}; the last accuracy (line "
                                   f"{facts.last[1]}) is of epoch {show(facts.last[2])}")

    def _reason(self) -> None:
        facts = self.context.facts
        reached = facts.reason == "target"
        if facts.reason in REASONS and facts.status and reached != (facts.status == "success"):
            self.report(facts.first["run_stop"].line,
                        f"run_stop has status {facts.status} and reason {facts.reason}")


# A hit rate of this many decimals differs, as a double, from any with another digit.
ACCURACY_DECIMALS = 15


class Hits(_Base):
    """The accuracy is a count of hits divided by the number of users.

    Where the evaluation's stop record says the hits, the accuracy is exactly their
    quotient in double precision, or that rounded to 15 decimals; elsewhere it times
    the users must be a whole number within the tolerance (relative).
    """

    PARAMS = {"key": word("the accuracy's key"), "users": word("key of the number of users"),
              "stop": word("key of the record whose metadata.hits may say the hits"),
              "tolerance": number("relative tolerance where no hits are logged")}
    WAITING = 64

    def setup(self) -> None:
        p = self.params
        self.key, self.stop = p["key"], p["stop"]
        self.keys = (p["key"], p["users"], p["stop"])
        self.users: int | None = None
        self.accuracy: dict[int, tuple[float, int]] = {}
        self.hits: dict[int, int] = {}

    def see(self, event: Event) -> None:
        if event.key == self.params["users"]:
            if self.users is None and is_integer(event.value) and event.value > 0:
                self.users = event.value
            return
        epoch = event.meta.get("epoch_num")
        if epoch.__class__ is not int:
            return
        if event.key == self.key:
            if is_number(event.value) and 0 <= event.value <= 1:
                self.accuracy[epoch] = (event.value, event.line)
        elif "hits" in event.meta:
            hits = event.meta["hits"]
            if is_integer(hits) and hits >= 0:
                self.hits[epoch] = hits
            else:
                self.report(event.line, f"metadata hits of {event.key} is {show(hits)}; it must be "
                                        "a whole number from 0 up")
        if epoch in self.accuracy and epoch in self.hits:
            self._exact(epoch, *self.accuracy.pop(epoch), self.hits.pop(epoch))
        if len(self.accuracy) > self.WAITING:
            oldest = min(self.accuracy)
            self._whole(*self.accuracy.pop(oldest))
        if len(self.hits) > self.WAITING:
            del self.hits[min(self.hits)]

    def _exact(self, epoch: int, value: float, line: int, hits: int) -> None:
        if self.users is None:
            return
        share = hits / self.users
        # Rounded as our logs have it, where each digit tells doubles apart, or not.
        if hits > self.users or value not in (share, round(share, ACCURACY_DECIMALS)):
            self.report(line, f"{self.key} of epoch {epoch} is {show(value)}, but {self.stop} "
                              f"counts {show(hits)} hits of {show(self.users)} users: "
                              f"{show(hits / self.users)}")

    def _whole(self, value: float, line: int) -> None:
        if self.users is None:
            return
        hits = value * self.users
        nearest = round(hits)
        allowed = self.params.get("tolerance", 1e-6) * max(nearest, 1)
        if math.isfinite(hits) and abs(hits - nearest) > allowed:
            self.report(line, f"{self.key} {show(value)} times {show(self.users)} users is no "
                              f"whole number of hits: {hits:.6g}")

    def end(self) -> None:
        for value, line in self.accuracy.values():
            self._whole(value, line)


class Clock(_Base):
    """The raw wall time in a record's metadata agrees with the record's own time."""

    PARAMS = {"key": word("the records' key"), "field": word("metadata name of the wall time, ms"),
              "within_s": Param("seconds of disagreement allowed",
                                lambda v: is_number(v) and v >= 0, "a number from 0 up", True)}

    def setup(self) -> None:
        self.keys = (self.params["key"],)

    def see(self, event: Event) -> None:
        wall = event.meta.get(self.params["field"])
        if wall is None or event.time != event.time:
            return
        if not is_number(wall) or abs(wall) > 1e17:
            self.report(event.line, f"{event.key}'s {self.params['field']} is {show(wall)}; it must "
                                    "be milliseconds since the epoch")
            return
        apart = (wall - event.time) / self.context.ticks
        if abs(apart) > self.params["within_s"]:
            self.report(event.line, f"{event.key}: the wall clock is {apart:+.3f} s from the "
                                    "record's own time")
