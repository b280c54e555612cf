"""`trace`: a log as Chrome trace events, for Perfetto or chrome://tracing.

Google's Trace Event Format: intervals are complete events ("X") in microseconds,
hit rate and throughput are counters ("C").  Sampling has rows of its own, since
it runs in the background.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compliance.checker import UsageError
from compliance.files import write_text
from compliance.timeline import (EVAL, EVAL_NEGATIVES, INIT, RUN, TRAIN, TRAIN_NEGATIVES, Span,
                                 Timeline, read_timeline)

_PID, _MAIN = 1, 1
# Sampling may overlap everything else, and itself: a row for each kind.
_ROWS = {TRAIN_NEGATIVES: 2, EVAL_NEGATIVES: 3}
_NAMES = {RUN: "run", INIT: "init", TRAIN: "train", EVAL: "evaluate",
          TRAIN_NEGATIVES: "training negatives", EVAL_NEGATIVES: "evaluation negatives"}


def write_trace(log: str | Path, output: str | Path) -> Timeline:
    """Writes the trace of a log; returns its timeline.  Raises UsageError, OSError.

    Nothing is written where the log holds no record of a known dialect.
    """
    log, output = Path(log), Path(output)
    if not log.exists() or log.is_dir():
        raise UsageError(f"{log}: give one log file")
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{output}: cannot be written; give a file in a folder that exists")
    if output.exists() and output.samefile(log):
        raise UsageError(f"{output} is the log itself; name another output")
    line = read_timeline(log)
    if line.dialect is not None:
        write_text(output, _as_text(trace_of(line)))
    return line


def _as_text(trace: dict[str, Any]) -> str:
    """JSON with an event a line."""
    rows = ",\n".join(json.dumps(event, allow_nan=False) for event in trace["traceEvents"])
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{rows}\n]}}\n'


def trace_of(line: Timeline) -> dict[str, Any]:
    """The trace as JSON values; times from the log's first record."""
    events = [_named("process_name", 0, Path(line.path).name), _named("thread_name", _MAIN, "run"),
              *(_named("thread_name", row, _NAMES[name]) for name, row in _ROWS.items())]
    # An outer interval comes before those in it, so that viewers nest them.
    spans = sorted(line.spans, key=lambda s: (s.start, -s.stop))
    events += [_complete(span, span in line.open) for span in spans]
    events += [_counter("HR@k", at, {"HR": value}) for at, value in line.hit_rates]
    for at, _, stats in line.stats:
        for key, name in (("throughput", "training examples/s"),
                          ("eval_throughput", "evaluation pairs/s")):
            value = stats.get(key)
            if type(value) in (int, float) and abs(value) < 1e300:
                events.append(_counter(name, at, {"per second": value}))
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _named(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": _PID, "tid": thread, "name": kind, "args": {"name": name}}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _complete(span: Span, unfinished: bool) -> dict[str, Any]:
    name = _NAMES[span.name] + ("" if span.epoch is None else f" {span.epoch}")
    args = {**({} if span.epoch is None else {"epoch": span.epoch}),
            **({"unfinished": True} if unfinished else {})}
    return {"ph": "X", "pid": _PID, "tid": _ROWS.get(span.name, _MAIN),
            "name": name, "cat": _NAMES[span.name], "ts": _microseconds(span.start),
            "dur": max(_microseconds(span.seconds), 0.0), "args": args}


def _counter(name: str, at: float, values: dict[str, float]) -> dict[str, Any]:
    return {"ph": "C", "pid": _PID, "tid": 0, "name": name, "ts": _microseconds(at),
            "args": values}
