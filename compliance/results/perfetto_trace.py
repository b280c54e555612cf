"""`trace`: writes logs as Chrome trace events, for Perfetto or chrome://tracing.

The format is Google's Trace Event Format: intervals are complete events ("X"), hit rate and
throughput are counters ("C"), and times are whole microseconds. Each log is a separate
process that begins at time 0 with its first record, so the runs are aligned. Sampling has
separate rows, since it may run in the background.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterable, Sequence

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import unsafe_path_reason, write_text
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
from compliance.results.run_set import relative_paths

Event = dict[str, Any]
# The rows of a log from top to bottom; intervals without an entry are in the first.
_ROW_NAMES = ("run", "training negatives", "evaluation negatives")
_ROW_OF_SPAN = {TRAIN_NEGATIVES: 1, EVAL_NEGATIVES: 2}
_EVENT_NAMES = {RUN: "run", INIT: "init", TRAIN: "train", EVAL: "evaluate",
                TRAIN_NEGATIVES: "training negatives", EVAL_NEGATIVES: "evaluation negatives"}
# (key of tracked_stats, name of the counter, interval to which the rate belongs)
_THROUGHPUT_COUNTERS = (("throughput", "training examples/s", TRAIN),
                        ("eval_throughput", "evaluation pairs/s", EVAL))
# A viewer draws the intervals of one thread as a stack. Intervals that overlap without being
# nested therefore go to further lanes, each a separate thread, up to this many lanes; an
# interval that fits into no lane is shortened to fit into the last.
MAX_LANES = 8
_LANES_PER_ROW, _TIDS_PER_LOG = 10, 100
_MAX_MICROSECONDS = 2**53  # larger whole numbers in JSON are not exact


def write_trace(paths: Iterable[str | Path], output: str | Path) -> list[Timeline]:
    """Writes the trace of the given logs and of the logs under the given folders.

    Nothing is written if no log contains a record of a known dialect.

    Args:
      paths: Logs and folders.
      output: The JSON file to write.

    Returns:
      The timelines of the logs.

    Raises:
      UsageError: A log does not exist, or the output cannot be written there.
      OSError: A log cannot be read, or the output cannot be written.
    """
    output = Path(output)
    logs = [log for path in map(Path, paths) for log in _list_logs(path)]
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{output}: cannot be written; give a file in a folder that exists")
    if output.exists() and any(log.exists() and output.samefile(log) for log in logs):
        raise UsageError(f"{output} is one of the logs; give another output file")
    timelines = [read_timeline(log) for log in logs]
    if any(timeline.dialect is not None for timeline in timelines):
        write_text(output, _trace_json(build_trace(timelines)))
    return timelines


def _list_logs(path: Path) -> list[Path]:
    """Returns the log itself, or the readable logs under a folder."""
    if path.is_dir():
        logs = [log for log in find_logs(path) if unsafe_path_reason(log) is None]
        if not logs:
            raise UsageError(f"{path}: no log in this folder can be read; give a folder with logs")
        return logs
    if not path.exists():
        raise UsageError(f"{path}: no such log; give a log file or a folder of logs")
    return [path]


def _trace_json(trace: dict[str, Any]) -> str:
    """Formats the trace as JSON with one event on each line."""
    rows = ",\n".join(json.dumps(event, allow_nan=False) for event in trace["traceEvents"])
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{rows}\n]}}\n'


def build_trace(timelines: Sequence[Timeline]) -> dict[str, Any]:
    """Builds the trace of several logs.

    Args:
      timelines: The timelines, one for each log.

    Returns:
      The trace as JSON values, with one process for each timeline.
    """
    names = relative_paths([timeline.path for timeline in timelines])
    events = [event for pid, (timeline, name) in enumerate(zip(timelines, names), 1)
              for event in _TraceProcess(timeline, pid).events(name)]
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _microseconds(seconds: float) -> int:
    """Converts seconds into whole microseconds, limited to the range of exact JSON numbers."""
    return min(max(round(seconds * 1e6), 0), _MAX_MICROSECONDS)


class _TraceProcess:
    """The events of one log, which is one process of the trace."""

    def __init__(self, timeline: Timeline, pid: int) -> None:
        self.timeline, self.pid = timeline, pid
        self.first_tid = pid * _TIDS_PER_LOG
        self.unfinished_spans = set(timeline.unfinished)

    def events(self, name: str) -> list[Event]:
        """Returns the events of the process and its rows, then the intervals and the counters."""
        intervals = self._interval_events()
        tids = sorted({event["tid"] for event in intervals} | {self.first_tid})
        metadata = [self._metadata_event("process_name", self.first_tid, name=name),
                    self._metadata_event("process_sort_index", self.first_tid, sort_index=self.pid)]
        for tid in tids:
            row, lane = divmod(tid - self.first_tid, _LANES_PER_ROW)
            label = _ROW_NAMES[row] + (f" ({lane + 1})" if lane else "")
            metadata += [self._metadata_event("thread_name", tid, name=label),
                         self._metadata_event("thread_sort_index", tid, sort_index=tid)]
        return metadata + intervals + sorted(self._counter_events(), key=lambda e: e["ts"])

    def _metadata_event(self, kind: str, tid: int, **args: Any) -> Event:
        """Returns an event that names the process or a thread, or sets its sort order."""
        return {"ph": "M", "pid": self.pid, "tid": tid, "name": kind, "args": args}

    def _interval_events(self) -> list[Event]:
        """Returns the intervals; intervals of one thread are nested or do not overlap."""
        rows: dict[int, list[tuple[int, int, Span]]] = {}
        for span in self.timeline.spans:
            start = _microseconds(span.start)
            stop = max(_microseconds(span.stop), start)
            rows.setdefault(_ROW_OF_SPAN.get(span.name, 0), []).append((start, stop, span))
        events = []
        for row, spans in sorted(rows.items()):
            # An outer interval comes before its inner intervals.
            spans.sort(key=lambda s: (s[0], -s[1]))
            for (start, _, span), (lane, stop) in zip(spans, assign_lanes([s[:2] for s in spans])):
                tid = self.first_tid + row * _LANES_PER_ROW + lane
                events.append(self._complete_event(span, tid, start, stop))
        return events

    def _complete_event(self, span: Span, tid: int, start: int, stop: int) -> Event:
        """Returns the event of one interval."""
        name = _EVENT_NAMES[span.name] + ("" if span.epoch is None else f" {span.epoch}")
        args = {} if span.epoch is None else {"epoch": span.epoch}
        if span in self.unfinished_spans:
            args["unfinished"] = True
        return {"ph": "X", "pid": self.pid, "tid": tid, "name": name,
                "cat": _EVENT_NAMES[span.name], "ts": start, "dur": stop - start, "args": args}

    def _counter_events(self) -> Iterable[Event]:
        """Yields hit rates at the times of their records, and rates over their intervals."""
        for at_s, value in self.timeline.hit_rates:
            yield self._counter_event("HR@k", at_s, {"value": value})
        # Reversed, so that the first of several intervals of one epoch is kept.
        spans = {(s.name, s.epoch): s for s in reversed(self.timeline.spans)}
        for at_s, epoch, stats in self.timeline.epoch_stats:
            for key, name, span_name in _THROUGHPUT_COUNTERS:
                value = stats.get(key)
                if type(value) not in (int, float) or not abs(value) < 1e300:
                    continue
                span = spans.get((span_name, epoch)) if isinstance(epoch, int) else None
                yield self._counter_event(name, span.start if span else at_s, {"value": value})
                if span:
                    # A counter keeps its value until the next event, so it is set back to 0.
                    yield self._counter_event(name, span.stop, {"value": 0})

    def _counter_event(self, name: str, at_s: float, values: dict[str, float]) -> Event:
        """Returns one value of a counter."""
        return {"ph": "C", "pid": self.pid, "tid": self.first_tid, "name": name,
                "ts": _microseconds(at_s), "args": values}


def assign_lanes(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Assigns intervals to lanes in which any two intervals are nested or do not overlap.

    Each interval goes into the first lane in which it fits. An interval that fits into none of
    the first MAX_LANES - 1 lanes is shortened until it fits into the last.

    Args:
      spans: Intervals (start, stop), sorted by start, with outer ones before inner ones.

    Returns:
      (lane, stop) of each interval; the stop is earlier if the interval was shortened.
    """
    # For each lane a stack with the stops of its open intervals, the innermost last.
    open_until: list[list[int]] = []
    result = []
    for start, stop in spans:
        for lane in range(len(open_until) + 1):
            if lane == len(open_until):
                open_until.append([])
            stack = open_until[lane]
            # Intervals that ended before this start are closed.
            while stack and stack[-1] <= start:
                stack.pop()
            if lane == MAX_LANES - 1 and stack:
                stop = min(stop, stack[-1])
            # It fits if the lane is free or if the open interval contains it.
            if not stack or stop <= stack[-1]:
                stack.append(stop)
                result.append((lane, stop))
                break
    return result
