"""Checks a trace against Google's Trace Event Format (the document of that name).

Only the events that this project writes are supported: complete events, counters and metadata.
A slow test of tests/compliance/results/test_perfetto_trace.py opens a trace in Perfetto itself.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

METADATA_ARGS = {"process_name": ("name", str), "process_labels": ("labels", str),
                 "process_sort_index": ("sort_index", int), "thread_name": ("name", str),
                 "thread_sort_index": ("sort_index", int)}  # fmt: skip


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < float("inf")


def find_faults(trace: Any) -> list[str]:
    """Returns the errors of a trace, one line each; an empty list if it is valid."""
    if not isinstance(trace, dict) or not isinstance(trace.get("traceEvents"), list):
        return ["no list traceEvents"]
    found = [] if trace.get("displayTimeUnit", "ms") in ("ms", "ns") else ["displayTimeUnit"]
    for index, event in enumerate(trace["traceEvents"]):
        found += [f"event {index}: {what}" for what in _event_faults(event)]
    return found or _nesting_faults(trace["traceEvents"])


def _event_faults(event: Any) -> list[str]:
    if not isinstance(event, dict):
        return ["no object"]
    wrong = [key for key in ("pid", "tid") if type(event.get(key)) is not int]
    wrong += [key for key in ("name",) if not isinstance(event.get(key), str) or not event[key]]
    args = event.get("args", {})
    if not isinstance(args, dict):
        return [*wrong, "args"]
    kind = event.get("ph")
    if kind == "M":
        name, value = METADATA_ARGS.get(event.get("name"), (None, None))
        wrong += [] if name and type(args.get(name)) is value else ["metadata"]
        return wrong
    if not is_number(event.get("ts")) or event["ts"] < 0:
        wrong.append("ts")
    if kind == "X":
        wrong += [] if is_number(event.get("dur")) and event["dur"] >= 0 else ["dur"]
        wrong += [] if isinstance(event.get("cat", ""), str) else ["cat"]
    elif kind == "C":
        wrong += [] if args and all(map(is_number, args.values())) else ["a counter's args"]
    else:
        wrong.append(f"ph {kind!r}")
    return wrong


def _nesting_faults(events: list[dict]) -> list[str]:
    """Checks that complete events of one track are nested or do not overlap."""
    def track(event: dict) -> tuple[int, int]:
        return event["pid"], event["tid"]

    found = []
    complete = sorted((e for e in events if e["ph"] == "X"),
                      key=lambda e: (track(e), e["ts"], -e["dur"]))  # fmt: skip
    for place, members in groupby(complete, track):
        stack: list[float] = []
        for event in members:
            start, stop = event["ts"], event["ts"] + event["dur"]
            while stack and stack[-1] <= start:
                stack.pop()
            if stack and stop > stack[-1]:
                found.append(f"track {place}: {event['name']} at {start} overlaps the outer event")
            stack.append(stop)
    return found
