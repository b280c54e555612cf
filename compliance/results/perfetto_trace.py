"""`trace`: logs as Chrome trace events, for Perfetto or chrome://tracing.

Google's Trace Event Format: intervals are complete events ("X"), hit rate and
throughput counters ("C"), times whole microseconds. Each log is a process of its own,
and all of them begin at 0, their first record, so that trials lie under each other.
Sampling has rows of its own, since it runs in the background.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterable, Sequence

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import why_no_member, write_text
from compliance.logs.find_logs import find_logs
from compliance.logs.timeline import (
    EVAL,
    EVAL_NEGATIVES,
    INIT,
    RUN,
    TRAIN,
    TRAIN_NEGATIVES,
    Span,
    Timeline,
    read_timeline,
)

Event = dict[str, Any]
# The rows of a trial from above; what is not named here is in the first.
_ROWS = ("run", "training negatives", "evaluation negatives")
_ROW_OF = {TRAIN_NEGATIVES: 1, EVAL_NEGATIVES: 2}
_NAMES = {RUN: "run", INIT: "init", TRAIN: "train", EVAL: "evaluate",
          TRAIN_NEGATIVES: "training negatives", EVAL_NEGATIVES: "evaluation negatives"}
# (key of tracked_stats, the counter's name, the interval in which it held)
_RATES = (("throughput", "training examples/s", TRAIN),
          ("eval_throughput", "evaluation pairs/s", EVAL))
# Viewers take intervals of one row as a stack: those that overlap without one holding
# the other go to further rows, at most so many; what fits none is cut to fit the last.
MAX_LANES = 8
_LANES_A_ROW, _TIDS_A_TRIAL = 10, 100
_LAST_US = 2**53  # beyond, numbers in JSON lose their units


def write_trace(paths: Iterable[str | Path], output: str | Path) -> list[Timeline]:
    """Writes the trace of logs, or of those under folders; returns their timelines.

    Nothing is written where no log holds a record of a known dialect. Raises UsageError,
    OSError.
    """
    output = Path(output)
    logs = [log for path in map(Path, paths) for log in _logs(path)]
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{output}: cannot be written; give a file in a folder that exists")
    if output.exists() and any(log.exists() and output.samefile(log) for log in logs):
        raise UsageError(f"{output} is the log itself; name another output")
    lines = [read_timeline(log) for log in logs]
    if any(line.dialect is not None for line in lines):
        write_text(output, _as_text(trace_of(lines)))
    return lines


def _logs(path: Path) -> list[Path]:
    if path.is_dir():
        logs = [log for log in find_logs(path) if why_no_member(log) is None]
        if not logs:
            raise UsageError(f"{path}: no log in this folder can be read; give a folder with logs")
        return logs
    if not path.exists():
        raise UsageError(f"{path}: there is no such log; give a log file or a folder of logs")
    return [path]


def _as_text(trace: dict[str, Any]) -> str:
    """JSON with an event a line."""
    rows = ",\n".join(json.dumps(event, allow_nan=False) for event in trace["traceEvents"])
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{rows}\n]}}\n'


def trace_of(lines: Sequence[Timeline]) -> dict[str, Any]:
    """The trace as JSON values; a process for each timeline."""
    names = _short([line.path for line in lines])
    events = [event for pid, (line, name) in enumerate(zip(lines, names), 1)
              for event in _Trial(line, pid).events(name)]
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _short(paths: Sequence[str]) -> list[str]:
    """Paths without the folder that they share."""
    whole = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    return [os.path.relpath(path, root) for path in whole]


def _microseconds(seconds: float) -> int:
    return min(max(round(seconds * 1e6), 0), _LAST_US)


class _Trial:
    """The events of one log."""

    def __init__(self, line: Timeline, pid: int) -> None:
        self.line, self.pid = line, pid
        self.first_tid = pid * _TIDS_A_TRIAL
        self.unfinished = set(line.open)

    def events(self, name: str) -> list[Event]:
        """Names, then intervals, then counters."""
        placed = self._intervals()
        tids = sorted({event["tid"] for event in placed} | {self.first_tid})
        named = [self._meta("process_name", self.first_tid, name=name),
                 self._meta("process_sort_index", self.first_tid, sort_index=self.pid)]
        for tid in tids:
            row, lane = divmod(tid - self.first_tid, _LANES_A_ROW)
            label = _ROWS[row] + (f" ({lane + 1})" if lane else "")
            named += [self._meta("thread_name", tid, name=label),
                      self._meta("thread_sort_index", tid, sort_index=tid)]
        return named + placed + sorted(self._counters(), key=lambda e: e["ts"])

    def _meta(self, kind: str, tid: int, **args: Any) -> Event:
        return {"ph": "M", "pid": self.pid, "tid": tid, "name": kind, "args": args}

    def _intervals(self) -> list[Event]:
        """Complete events; those of one row nest or are apart."""
        rows: dict[int, list[tuple[int, int, Span]]] = {}
        for span in self.line.spans:
            start = _microseconds(span.start)
            stop = max(_microseconds(span.stop), start)
            rows.setdefault(_ROW_OF.get(span.name, 0), []).append((start, stop, span))
        events = []
        for row, spans in sorted(rows.items()):
            # An outer interval comes before those in it.
            spans.sort(key=lambda s: (s[0], -s[1]))
            for (start, _, span), (lane, stop) in zip(spans, lanes([s[:2] for s in spans])):
                tid = self.first_tid + row * _LANES_A_ROW + lane
                events.append(self._complete(span, tid, start, stop))
        return events

    def _complete(self, span: Span, tid: int, start: int, stop: int) -> Event:
        name = _NAMES[span.name] + ("" if span.epoch is None else f" {span.epoch}")
        args = {} if span.epoch is None else {"epoch": span.epoch}
        if span in self.unfinished:
            args["unfinished"] = True
        return {"ph": "X", "pid": self.pid, "tid": tid, "name": name, "cat": _NAMES[span.name],
                "ts": start, "dur": stop - start, "args": args}

    def _counters(self) -> Iterable[Event]:
        """Hit rates when they were found; rates over the interval that they are of."""
        for at, value in self.line.hit_rates:
            yield self._counter("HR@k", at, {"value": value})
        spans = {(s.name, s.epoch): s for s in reversed(self.line.spans)}
        for at, epoch, stats in self.line.stats:
            for key, name, of in _RATES:
                value = stats.get(key)
                if type(value) not in (int, float) or not abs(value) < 1e300:
                    continue
                span = spans.get((of, epoch)) if isinstance(epoch, int) else None
                yield self._counter(name, span.start if span else at, {"value": value})
                if span:
                    yield self._counter(name, span.stop, {"value": 0})

    def _counter(self, name: str, at: float, values: dict[str, float]) -> Event:
        return {"ph": "C", "pid": self.pid, "tid": self.first_tid, "name": name,
                "ts": _microseconds(at), "args": values}


def lanes(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(lane, stop) for intervals (start, stop) sorted by start, outer before inner.

    In one lane any two nest or are apart; only what is cut in the last ends earlier.
    """
    open_until: list[list[int]] = []  # of each lane the stops of what is open, inner last
    result = []
    for start, stop in spans:
        for lane in range(len(open_until) + 1):
            if lane == len(open_until):
                open_until.append([])
            stack = open_until[lane]
            while stack and stack[-1] <= start:
                stack.pop()
            if lane == MAX_LANES - 1 and stack:
                stop = min(stop, stack[-1])
            if not stack or stop <= stack[-1]:
                stack.append(stop)
                result.append((lane, stop))
                break
    return result
