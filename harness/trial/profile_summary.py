"""Sums up a profile: the XLA operators that took the most time.

TensorFlow's and JAX's profilers write the same file, an XSpace (*.xplane.pb): planes (devices or
the host), lines (threads or streams) and events. An event of an XLA operator names it in the
statistic `hlo_op`, and its program in `hlo_module`. The time of an operator is its self time, which
excludes operators inside it, such as those in the body of a loop. Threads that compute at the same
time add up, so the times do not add up to the seconds of the run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple

MAX_ROWS = 10
# Reading a larger profile would take minutes.
MAX_BYTES = 256 << 20
# The name that TensorFlow gives to the module of a traced function.
_TRACED_FUNCTION = re.compile(r"inference_+(\w+?)_\d+(?:_|$)")


class OperatorEvent(NamedTuple):
    """One execution of an operator; times in picoseconds or any other unit.

    Attributes:
      operator: The operator's name in its program.
      program: The name of the program.
      start: Start of the execution.
      duration: Duration of the execution.
    """

    operator: str
    program: str
    start: float
    duration: float


@dataclass
class OperatorTime:
    """The executions of one operator.

    Attributes:
      operator: Its name.
      program: Its program.
      calls: Number of executions.
      seconds: Their self time, over all threads.
    """

    operator: str
    program: str
    calls: int = 0
    seconds: float = 0.0


def sum_up(lines: Iterable[list[OperatorEvent]], unit_s: float) -> list[OperatorTime]:
    """Adds up the self time of each operator.

    Args:
      lines: The events of each thread or stream, in any order; they nest or follow each other.
      unit_s: The unit of their times, in seconds.

    Returns:
      The operators, those with the most time first.
    """
    found: dict[tuple[str, str], OperatorTime] = {}
    for events in lines:
        enclosing: list[tuple[float, OperatorTime]] = []  # (end, operator) of the open events
        for event in sorted(events, key=lambda e: (e.start, -e.duration)):
            while enclosing and enclosing[-1][0] <= event.start:
                enclosing.pop()
            key = (event.operator, event.program)
            entry = found.setdefault(key, OperatorTime(*key))
            entry.calls += 1
            entry.seconds += event.duration * unit_s
            if enclosing:
                enclosing[-1][1].seconds -= event.duration * unit_s
            enclosing.append((event.start + event.duration, entry))
    return sorted(found.values(), key=lambda entry: -entry.seconds)


def format_summary(operators: list[OperatorTime]) -> list[str]:
    """Returns a table of the operators with the most time, one row for each."""
    total = sum(entry.seconds for entry in operators)
    if not total:
        return ["the profile contains no XLA operator"]
    shown = operators[:MAX_ROWS]
    width = max(len("operator"), *(len(entry.operator) for entry in shown))
    rows = [f"{'operator':<{width}}  {'seconds':>8}  {'share':>6}  {'calls':>8}  program"]
    for entry in shown:
        rows.append(f"{entry.operator:<{width}}  {entry.seconds:>8.3f}  "
                    f"{100 * entry.seconds / total:>5.1f}%  {entry.calls:>8}  {entry.program}")
    others = operators[MAX_ROWS:]
    if others:
        seconds = sum(entry.seconds for entry in others)
        rows.append(f"{f'{len(others)} others':<{width}}  {seconds:>8.3f}  "
                    f"{100 * seconds / total:>5.1f}%  {sum(e.calls for e in others):>8}")
    return rows


def summarize(folder: Path, runtime: str) -> list[str]:
    """Reads the newest profile below a folder and sums it up.

    Args:
      folder: The folder that the profiler was given.
      runtime: The runtime whose package reads the profile: "tensorflow" or "pjrt".

    Returns:
      Lines for the user.

    Raises:
      Exception: There is no profile, or it cannot be read.
    """
    path = max(folder.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    if path.stat().st_size > MAX_BYTES:
        return [f"the profile is larger than {MAX_BYTES >> 20} MiB and is not summed up"]
    if runtime == "pjrt":
        return format_summary(sum_up(_read_with_jax(path), 1e-9))
    return format_summary(sum_up(_read_with_tensorflow(path), 1e-12))


def _read_with_tensorflow(path: Path) -> Iterator[list[OperatorEvent]]:
    """Yields the operators of each line, with times in picoseconds."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        names = {identity: stat.name for identity, stat in plane.stat_metadata.items()}
        wanted = {identity for identity, name in names.items() if name in ("hlo_op", "hlo_module")}
        for line in plane.lines:
            events = []
            for event in line.events:
                stats = {names[stat.metadata_id]: names.get(stat.ref_value, "") or stat.str_value
                         for stat in event.stats if stat.metadata_id in wanted}
                if "hlo_op" in stats:
                    events.append(_event(stats, event.offset_ps, event.duration_ps))
            yield events


def _read_with_jax(path: Path) -> Iterator[list[OperatorEvent]]:
    """Yields the operators of each line, with times in nanoseconds."""
    from jax.profiler import ProfileData

    for plane in ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            events = []
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats:
                    events.append(_event(stats, event.start_ns, event.duration_ns))
            yield events


def _event(stats: dict[str, Any], start: float, duration: float) -> OperatorEvent:
    module = str(stats.get("hlo_module", ""))
    traced = _TRACED_FUNCTION.search(module)
    program = traced[1] if traced else module.removeprefix("jit_").partition("__")[0][:24]
    return OperatorEvent(str(stats["hlo_op"])[:40], program, start, duration)
