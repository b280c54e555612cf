"""Checks of the order of records: phases of a run, intervals, epochs."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Sequence

from compliance.base.text import format_value
from compliance.checking.checks.base import (
    Check,
    Need,
    Param,
    epoch_of,
    field_getter,
    field_param,
    flag_param,
    text_param,
    texts_param,
)
from compliance.logs.dialects.event import Event, Item, is_integer

_get_key = attrgetter("key")
# The state of at most this many epochs is kept; valid logs need two or three at once.
MAX_OPEN_EPOCHS = 64
# At most this many records wait for the other record of their epoch; a log with more is wrong.
MAX_WAITING_EPOCHS = 4096


class OrderCheck(Check):
    """The records of these keys, if they exist, are in this order."""

    PARAMS = {"keys": texts_param("the keys, first to last")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(key) for key in params["keys"])

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.rank = {key: i for i, key in enumerate(self.keys)}
        self.reached: tuple[int, int] = (-1, 0)  # (highest rank so far, its first line)

    def observe(self, event: Event) -> None:
        rank = self.rank[event.key]
        if rank < self.reached[0]:
            self.report(event.line, f"{event.key} must come before {self.keys[self.reached[0]]} "
                                    f"(line {self.reached[1]})")
        elif rank > self.reached[0]:
            self.reached = (rank, event.line)


class BetweenCheck(Check):
    """Records of these keys come after the record of one key and before that of another."""

    PARAMS = {"keys": texts_param("the keys"), "after": text_param("the key that comes before"),
              "before": text_param("the key that comes after", required=False)}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(params["after"], when=key) for key in params["keys"])

    def setup(self) -> None:
        self.after, self.before = self.params["after"], self.params.get("before")
        self.wanted = {*self.params["keys"], self.after, self.before}
        self.has_begun = False  # whether `after` has been seen
        self.end_line = 0  # the line of `before`; 0: not seen
        # The line of the first record of each key that came too early. These are reported when
        # `after` comes; `needs` reports a log without it.
        self.early_lines: dict[str, int] = {}
        self.late_keys: set[str] = set()  # keys that came too late and were reported

    def observe_block(self, items: Sequence[Item]) -> None:
        """Processes the next items of the log, in order."""
        keys = set(map(_get_key, items))
        # Only these keys can now change the state or violate the rule.
        relevant = self.wanted if not self.has_begun \
            else {self.after, self.before} if not self.end_line \
            else self.wanted - self.late_keys - {self.before}
        if keys.isdisjoint(relevant):
            return  # the usual case: one set operation for the whole block
        for item in items:
            if item.key in self.wanted and isinstance(item, Event):
                self.observe(item)

    def observe(self, event: Event) -> None:
        key = event.key
        if key == self.after:
            for key, line in self.early_lines.items():
                self.report(line, f"{key} must come after {self.after} (line {event.line})")
            self.early_lines.clear()
            self.has_begun = True
        elif event.key == self.before:
            self.end_line = self.end_line or event.line
        elif not self.has_begun:
            self.early_lines.setdefault(event.key, event.line)
        elif self.end_line and event.key not in self.late_keys:
            self.late_keys.add(event.key)
            self.report(event.line, f"{event.key} must come before {self.before} (line "
                                    f"{self.end_line})")


class NestingCheck(Check):
    """Each interval ends before the interval around it, and does not start again while open.

    In an aborted run, the intervals that were open at its end may have no stop.
    """

    PARAMS = {"intervals": texts_param("the names; the records are NAME_start and NAME_stop"),
              "inside": Param("for a name, the names of the intervals in which it may start",
                              lambda v: isinstance(v, dict) and bool(v) and all(
                                  isinstance(x, list) and all(isinstance(y, str) for y in x)
                                  for x in v.values()), "a mapping of names to lists of names")}

    def setup(self) -> None:
        names = self.params["intervals"]
        self.inside = self.params.get("inside", {})
        self.keys = tuple(f"{n}_{end}" for n in names for end in ("start", "stop"))
        self.parts = {key: tuple(key.rsplit("_", 1)) for key in self.keys}  # (name, edge)
        # (name, line) of the open intervals, the innermost last; names are unique.
        self.open: list[tuple[str, int]] = []

    def observe(self, event: Event) -> None:
        name, edge = self.parts[event.key]
        if edge == "stop" and self.open and self.open[-1][0] == name:
            self.open.pop()  # the usual case: the innermost interval ends
            return
        open_names = [n for n, _ in self.open]
        if edge == "start":
            if name in open_names:
                self.report(event.line, f"{event.key} appears while the {name} of line "
                                        f"{self.open[open_names.index(name)][1]} is still open")
            else:
                if open_names and open_names[-1] not in self.inside.get(name, open_names):
                    self.report(event.line, f"{event.key} appears inside the {open_names[-1]} of "
                                            f"line {self.open[-1][1]}")
                self.open.append((name, event.line))
        elif name not in open_names:
            self.report(event.line, f"{event.key} has no {name}_start before it")
        else:
            # An outer interval ends before an inner one.
            depth = open_names.index(name)
            inner = self.open[depth + 1:]
            if inner and not (name == "run" and self.context.summary.status == "aborted"):
                self.report(event.line, f"{event.key} appears while {inner[-1][0]} (line "
                                        f"{inner[-1][1]}) is still open")
            del self.open[depth:]

    def finish(self) -> None:
        if self.context.summary.status == "aborted" or not self.context.summary.is_complete:
            return
        for name, line in self.open:
            self.report(line, f"the {name} that starts here never ends")


class PairsCheck(Check):
    """Each start of an interval has a stop with the same epoch number; intervals may overlap.

    In an aborted run the last intervals may have no stop.
    """

    PARAMS = {"interval": text_param("the name; the records are NAME_start and NAME_stop")}

    def setup(self) -> None:
        self.name = self.params["interval"]
        self.keys = (f"{self.name}_start", f"{self.name}_stop")
        self.open: dict[int, int] = {}  # the line of the start, by epoch

    def observe(self, event: Event) -> None:
        epoch = epoch_of(event)
        if epoch is None:
            self.report(event.line, f"metadata epoch_num of {event.key} must be a whole number")
        elif event.key == self.keys[1]:
            if self.open.pop(epoch, None) is None:
                self.report(event.line, f"{event.key} of epoch {epoch} has no start before it")
        elif epoch in self.open:
            self.report(event.line, f"{event.key} of epoch {epoch} appears twice (line "
                                    f"{self.open[epoch]})")
        else:
            self.open[epoch] = event.line
            if len(self.open) > MAX_OPEN_EPOCHS:
                self._report_unfinished(next(iter(self.open)))

    def _report_unfinished(self, epoch: int) -> None:
        self.report(self.open.pop(epoch), f"the {self.name} of epoch {epoch} never ends")

    def finish(self) -> None:
        if self.context.summary.status == "success":
            for epoch in list(self.open):
                self._report_unfinished(epoch)


class EpochsCheck(Check):
    """The epoch numbers of a key increase by 1, starting at 0 or 1."""

    PARAMS = {"key": text_param("the records' key")}

    def setup(self) -> None:
        self.keys = (self.params["key"],)
        self.last: int | None = None  # the epoch of the last record

    def observe(self, event: Event) -> None:
        epoch = event.metadata.get("epoch_num")
        if not is_integer(epoch):
            what = "is missing" if epoch is None else f"is {format_value(epoch)}"
            self.report(event.line, f"metadata epoch_num of {event.key} {what}; it must be a "
                                    "whole number")
            return
        if self.last is None:
            if epoch not in (0, 1):
                self.report(event.line, f"the first {event.key} has epoch_num {epoch}; it must "
                                        "be 1 (or 0)")
        elif epoch != self.last + 1:
            self.report(event.line, f"{event.key} of epoch {epoch} follows {event.key} of "
                                    f"epoch {self.last}")
        self.last = epoch


class PerEpochCheck(Check):
    """For each epoch of the first key there is exactly one record of each other key.

    The last epoch of an aborted run may be incomplete. With `ahead`, records for one epoch after
    the last are allowed: negatives that were prepared and not used.
    """

    PARAMS = {"of": text_param("the key that defines the epochs"),
              "keys": texts_param("the keys required once per epoch"),
              "ahead": flag_param("whether one epoch after the last may have records")}

    def setup(self) -> None:
        self.others = tuple(self.params["keys"])
        self.keys = (self.params["of"], *self.others)
        self.columns = {key: i for i, key in enumerate(self.keys)}
        self.empty_row = [0] * len(self.keys)
        # For each epoch a row: the line of the record of each key, 0 if there is none yet.
        self.rows: dict[int, list[int]] = {}
        self.newest: int | None = None  # the newest epoch that has started
        self.judged: int | None = None  # epochs up to this one were checked and dropped

    def observe(self, event: Event) -> None:
        epoch = event.metadata.get("epoch_num")
        if epoch.__class__ is not int:
            if event.key != self.keys[0]:
                self.report(event.line, f"metadata epoch_num of {event.key} must be a whole number")
            return
        row = self.rows.get(epoch)
        if row is None:
            if self.judged is not None and epoch <= self.judged:
                self.report(event.line, f"{event.key} of epoch {epoch} appears long after that "
                                        "epoch")
                return
            row = self.rows[epoch] = self.empty_row.copy()
            if len(self.rows) > MAX_OPEN_EPOCHS:
                self._judge_older_half()
        column = self.columns[event.key]
        if row[column]:
            self.report(event.line, f"{event.key} of epoch {epoch} appears twice (line "
                                    f"{row[column]})")
        row[column] = event.line
        if column == 0 and (self.newest is None or epoch > self.newest):
            self.newest = epoch

    def _judge_older_half(self) -> None:
        """Checks and drops the older half of the rows, but not the newest row."""
        *epochs, _ = self.rows
        for oldest in sorted(epochs)[:MAX_OPEN_EPOCHS // 2]:
            self._judge(oldest, self.rows.pop(oldest), None)
            self.judged = oldest

    def _judge(self, epoch: int, row: list[int], last: int | None) -> None:
        """Checks one epoch; `last` is the last epoch of the run, None if it comes later."""
        if not row[0]:
            # The epoch itself did not start: its records are allowed only with `ahead`.
            if self.params.get("ahead") and self.newest is not None and epoch == self.newest + 1 \
                    or self.params.get("ahead") and self.newest is None and epoch <= 1:
                return
            line = next(line for line in row if line)
            key = self.keys[row.index(line)]
            self.report(line, f"{key} is of epoch {epoch}, which has no {self.keys[0]}")
            return
        if epoch == last and self.context.summary.status == "aborted":
            return
        for key, line in zip(self.others, row[1:]):
            if not line:
                self.report(row[0], f"epoch {epoch}, which starts here, has no {key}")

    def finish(self) -> None:
        if not self.context.summary.is_complete:
            return
        for epoch in sorted(self.rows):
            self._judge(epoch, self.rows[epoch], self.newest)


class EpochOrderCheck(Check):
    """Within one epoch, the records of these keys are in this order."""

    PARAMS = {"keys": texts_param("the keys, first to last")}

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.rank = {key: i for i, key in enumerate(self.keys)}
        # For each epoch (highest rank so far, its first line).
        self.reached: dict[int, tuple[int, int]] = {}

    def observe(self, event: Event) -> None:
        epoch = event.metadata.get("epoch_num")
        if epoch.__class__ is not int:
            return
        rank, (reached, line) = self.rank[event.key], self.reached.get(epoch, (-1, 0))
        if rank < reached:
            self.report(event.line, f"{event.key} of epoch {epoch} must come before its "
                                    f"{self.keys[reached]} (line {line})")
        elif rank > reached:
            self.reached[epoch] = (rank, event.line)
            if len(self.reached) > MAX_OPEN_EPOCHS:
                for oldest in sorted(self.reached)[:MAX_OPEN_EPOCHS // 2]:
                    del self.reached[oldest]


class NoSuchEpochCheck(Check):
    """No epoch with a record of one key has a record of another key with a given value."""

    PARAMS = {"key": text_param("the key of the record with the value"), "field": field_param(),
              "value": text_param("the value"), "of": text_param("the key of the other record")}

    def setup(self) -> None:
        self.key, self.of = self.params["key"], self.params["of"]
        self.keys = (self.key, self.of)
        self.get = field_getter(self.params["field"])
        # For both keys, the line of the record by epoch, until the other record is seen.
        self.waiting: dict[str, dict[int, int]] = {self.key: {}, self.of: {}}

    def observe(self, event: Event) -> None:
        epoch = epoch_of(event)
        if epoch is None or event.key == self.key and self.get(event) != self.params["value"]:
            return
        other = self.waiting[self.of if event.key == self.key else self.key].get(epoch)
        if other is not None:
            said, of = (event.line, other) if event.key == self.key else (other, event.line)
            self.report(said, f"{self.key} of epoch {epoch} has {self.params['value']}, but the "
                              f"epoch has {self.of} (line {of})")
        elif len(self.waiting[event.key]) < MAX_WAITING_EPOCHS:
            self.waiting[event.key][epoch] = event.line


class InTurnCheck(Check):
    """An epoch starts only after the epoch before it has ended.

    The `first` record of an epoch comes after the `last` record of every epoch before it.
    """

    PARAMS = {"first": text_param("the key of an epoch's first record"),
              "last": text_param("the key of an epoch's last record")}

    def setup(self) -> None:
        self.first, self.last = self.params["first"], self.params["last"]
        self.keys = (self.first, self.last)
        self.open: tuple[int, int] | None = None  # (epoch, line) of the open epoch

    def observe(self, event: Event) -> None:
        epoch = epoch_of(event)
        if epoch is None:
            return  # another rule reports it
        if event.key == self.last:
            if self.open is not None and self.open[0] == epoch:
                self.open = None
            return
        if self.open is not None and self.open[0] != epoch:
            self.report(event.line, f"{self.first} of epoch {epoch} comes before {self.last} "
                                    f"of epoch {self.open[0]}, which starts in line {self.open[1]}")
        self.open = (epoch, event.line)
