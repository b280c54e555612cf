"""Checks of order in time: phases, intervals, epochs."""

from __future__ import annotations

from operator import attrgetter
from typing import Sequence

from compliance.checking.checks.base import epoch_of, flag, word, words
from compliance.checking.checks.records import _Base
from compliance.logs.dialects.event import Event, Item, is_integer, show

_KEY = attrgetter("key")
# How many epochs are kept open at once; honest logs have two or three.
WINDOW = 64


class Order(_Base):
    """Records of these keys stand in this order (those that exist)."""

    PARAMS = {"keys": words("the keys, first to last")}

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.rank = {key: i for i, key in enumerate(self.keys)}
        self.reached: tuple[int, int] = (-1, 0)

    def see(self, event: Event) -> None:
        rank = self.rank[event.key]
        if rank < self.reached[0]:
            self.report(event.line, f"{event.key} stands after {self.keys[self.reached[0]]} "
                                    f"(line {self.reached[1]})")
        elif rank > self.reached[0]:
            self.reached = (rank, event.line)


class Between(_Base):
    """Records of these keys stand after the one key's record and before the other's."""

    PARAMS = {"keys": words("the keys"), "after": word("key that must have been seen"),
              "before": word("key that must not have been seen", required=False)}

    def setup(self) -> None:
        self.after, self.before = self.params["after"], self.params.get("before")
        self.wanted = {*self.params["keys"], self.after, self.before}
        self.begun = False
        self.ended = 0
        # First record of each key that came too early; told when `after` comes,
        # since a log without it breaks another rule.
        self.early: dict[str, int] = {}
        self.late: set[str] = set()

    def see_all(self, items: Sequence[Item]) -> None:
        """Every item in the order of the log, many at a time."""
        keys = set(map(_KEY, items))
        news = self.wanted if not self.begun else {self.after, self.before} if not self.ended \
            else self.wanted - self.late - {self.before}
        if keys.isdisjoint(news):
            return  # the usual case
        for item in items:
            if item.key in self.wanted and isinstance(item, Event):
                self.see(item)

    def see(self, event: Event) -> None:
        key = event.key
        if key == self.after:
            for key, line in self.early.items():
                self.report(line, f"{key} stands before {self.after} (line {event.line})")
            self.early.clear()
            self.begun = True
        elif event.key == self.before:
            self.ended = self.ended or event.line
        elif not self.begun:
            self.early.setdefault(event.key, event.line)
        elif self.ended and event.key not in self.late:
            self.late.add(event.key)
            self.report(event.line, f"{event.key} stands after {self.before} (line {self.ended})")


class Nesting(_Base):
    """Intervals close, the innermost first, and do not begin twice.

    An aborted run may leave open what it was in the middle of.
    """

    PARAMS = {"intervals": words("names; NAME_start and NAME_stop are the records")}

    def setup(self) -> None:
        names = self.params["intervals"]
        self.keys = tuple(f"{n}_{end}" for n in names for end in ("start", "stop"))
        self.parts = {key: tuple(key.rsplit("_", 1)) for key in self.keys}
        self.open: list[tuple[str, int]] = []  # never holds a name twice

    def see(self, event: Event) -> None:
        name, end = self.parts[event.key]
        if end == "stop" and self.open and self.open[-1][0] == name:
            self.open.pop()  # the usual case
            return
        inside = [n for n, _ in self.open]
        if end == "start":
            if name in inside:
                self.report(event.line, f"{event.key} stands while the {name} of line "
                                        f"{self.open[inside.index(name)][1]} is still open")
            else:
                self.open.append((name, event.line))
        elif name not in inside:
            self.report(event.line, f"{event.key} stands without a {name}_start before it")
        else:
            at = inside.index(name)
            left = self.open[at + 1:]
            if left and not (name == "run" and self.context.facts.status == "aborted"):
                self.report(event.line, f"{event.key} stands while {left[-1][0]} (line "
                                        f"{left[-1][1]}) is still open")
            del self.open[at:]

    def end(self) -> None:
        if self.context.facts.status == "aborted" or not self.context.facts.complete:
            return
        for name, line in self.open:
            self.report(line, f"the {name} that begins here never ends")


class Pairs(_Base):
    """Starts and stops of an interval match by epoch number; pairs may overlap others.

    An aborted run may leave its last ones open.
    """

    PARAMS = {"interval": word("name; NAME_start and NAME_stop are the records")}

    def setup(self) -> None:
        self.name = self.params["interval"]
        self.keys = (f"{self.name}_start", f"{self.name}_stop")
        self.open: dict[int, int] = {}

    def see(self, event: Event) -> None:
        epoch = epoch_of(event)
        if epoch is None:
            self.report(event.line, f"{event.key} has no whole number as metadata.epoch_num")
        elif event.key == self.keys[1]:
            if self.open.pop(epoch, None) is None:
                self.report(event.line, f"{event.key} of epoch {epoch} stands without its start")
        elif epoch in self.open:
            self.report(event.line, f"{event.key} of epoch {epoch} stands twice (line "
                                    f"{self.open[epoch]})")
        else:
            self.open[epoch] = event.line
            if len(self.open) > WINDOW:
                self._never(next(iter(self.open)))

    def _never(self, epoch: int) -> None:
        self.report(self.open.pop(epoch), f"the {self.name} of epoch {epoch} never ends")

    def end(self) -> None:
        if self.context.facts.status == "success":
            for epoch in list(self.open):
                self._never(epoch)


class Epochs(_Base):
    """The epoch numbers of a key count up by one, from 0 or 1."""

    PARAMS = {"key": word("the records' key")}

    def setup(self) -> None:
        self.keys = (self.params["key"],)
        self.last: int | None = None

    def see(self, event: Event) -> None:
        epoch = event.meta.get("epoch_num")
        if not is_integer(epoch):
            what = "is missing" if epoch is None else f"is {show(epoch)}"
            self.report(event.line, f"metadata epoch_num of {event.key} {what}; it must be a "
                                    "whole number")
            return
        if self.last is None:
            if epoch not in (0, 1):
                self.report(event.line, f"the first {event.key} has epoch_num {epoch}; epochs "
                                        "count from 1 (or 0)")
        elif epoch != self.last + 1:
            self.report(event.line, f"{event.key} of epoch {epoch} follows that of epoch "
                                    f"{self.last}")
        self.last = epoch


class PerEpoch(_Base):
    """For each epoch of the first key there is exactly one record of each other key.

    The last epoch of an aborted run may lack some.  With `ahead`, records for one
    epoch past the last may stand: what was prepared and not used.
    """

    PARAMS = {"of": word("key whose epochs count"), "keys": words("keys wanted once per epoch"),
              "ahead": flag("whether one epoch past the last may have records")}

    def setup(self) -> None:
        self.others = tuple(self.params["keys"])
        self.keys = (self.params["of"], *self.others)
        self.place = {key: i for i, key in enumerate(self.keys)}
        self.none = [0] * len(self.keys)
        self.rows: dict[int, list[int]] = {}  # epoch -> line of each key, 0 where none yet
        self.newest: int | None = None  # newest epoch that began
        self.judged: int | None = None

    def see(self, event: Event) -> None:
        epoch = event.meta.get("epoch_num")
        if epoch.__class__ is not int:
            if event.key != self.keys[0]:
                self.report(event.line, f"{event.key} has no whole number as metadata.epoch_num")
            return
        row = self.rows.get(epoch)
        if row is None:
            if self.judged is not None and epoch <= self.judged:
                self.report(event.line, f"{event.key} of epoch {epoch} stands long after that "
                                        "epoch")
                return
            row = self.rows[epoch] = self.none.copy()
            if len(self.rows) > WINDOW:
                self._old()
        at = self.place[event.key]
        if row[at]:
            self.report(event.line, f"{event.key} of epoch {epoch} stands twice (line {row[at]})")
        row[at] = event.line
        if at == 0 and (self.newest is None or epoch > self.newest):
            self.newest = epoch

    def _old(self) -> None:
        """Judges the older half of what is open, all but the row that was just made."""
        *rows, _ = self.rows
        for oldest in sorted(rows)[:WINDOW // 2]:
            self._judge(oldest, self.rows.pop(oldest), None)
            self.judged = oldest

    def _judge(self, epoch: int, row: list[int], last: int | None) -> None:
        if not row[0]:
            if self.params.get("ahead") and self.newest is not None and epoch == self.newest + 1 \
                    or self.params.get("ahead") and self.newest is None and epoch <= 1:
                return
            line = next(line for line in row if line)
            key = self.keys[row.index(line)]
            self.report(line, f"{key} is of epoch {epoch}, which has no {self.keys[0]}")
            return
        if epoch == last and self.context.facts.status == "aborted":
            return
        for key, line in zip(self.others, row[1:]):
            if not line:
                self.report(row[0], f"epoch {epoch}, which begins here, has no {key}")

    def end(self) -> None:
        if not self.context.facts.complete:
            return
        for epoch in sorted(self.rows):
            self._judge(epoch, self.rows[epoch], self.newest)


class EpochOrder(_Base):
    """Within one epoch the records of these keys stand in this order."""

    PARAMS = {"keys": words("the keys, first to last")}

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.rank = {key: i for i, key in enumerate(self.keys)}
        self.reached: dict[int, tuple[int, int]] = {}  # epoch -> (rank, line)

    def see(self, event: Event) -> None:
        epoch = event.meta.get("epoch_num")
        if epoch.__class__ is not int:
            return
        rank, (reached, line) = self.rank[event.key], self.reached.get(epoch, (-1, 0))
        if rank < reached:
            self.report(event.line, f"{event.key} of epoch {epoch} stands after its "
                                    f"{self.keys[reached]} (line {line})")
        elif rank > reached:
            self.reached[epoch] = (rank, event.line)
            if len(self.reached) > WINDOW:
                for oldest in sorted(self.reached)[:WINDOW // 2]:
                    del self.reached[oldest]
