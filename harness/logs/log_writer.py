"""Writes the logs of runs, as MLLOG records or in the v0.5 dialect.

No other module writes run logs. A sink writes one file for one run. Every record is
written with one system call, so the log of a killed process contains only whole lines. A
failed write raises an exception, so no record is lost silently. Sinks are thread-safe.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
from mlperf_logging import mllog

from harness.base.clock import RunClock
from harness.base.machine import PROJECT_ROOT
from harness.logs.v05_translator import V05Translator

# mllog removes this regular expression from the path of a record's call site.
_ROOT_PATTERN = re.escape(str(PROJECT_ROOT))
# Stack frames from MLLogger.event to the code that reports the event, which is the call site
# in the record. The frames between are `_write`, `_record` and `point`, `start` or `end`.
_MLLOG_STACK_OFFSET = 4
# The same number, counted from mllog's get_caller.
_V05_STACK_INDEX = 4


class EventValueError(ValueError):
    """A value that cannot be logged without loss."""


class LogWriteError(OSError):
    """The log file could not be written; the run cannot continue without it."""


def to_json_types(value: Any, name: str) -> Any:
    """Converts a value to plain JSON types.

    Args:
      value: Python or NumPy scalars, arrays, lists, tuples and dicts, nested.
      name: Name of the value in messages.

    Returns:
      None, bool, int, float, str, or lists and dicts of these.

    Raises:
      EventValueError: NaN, an infinity, or a type that JSON cannot represent.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EventValueError(f"{name} is {value}; a log may contain finite numbers only")
        return value
    if isinstance(value, (list, tuple)):
        return [to_json_types(element, f"{name}[{i}]") for i, element in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise EventValueError(f"{name} has the key {key!r}; keys must be text")
        return {key: to_json_types(element, f"{name}.{key}") for key, element in value.items()}
    raise EventValueError(f"{name} is of type {type(value).__name__}, which JSON cannot represent")


class _LineFile(logging.Handler):
    """Appends each record to a file as one line with one write.

    `failure` is the reason why a record could not be written; None if there was no failure.

    Args:
      path: The file.
      append: Whether to append to an existing file.
      is_held: Whether to keep the lines in memory until `open` is called.
    """

    def __init__(self, path: Path, append: bool, is_held: bool):
        super().__init__(level=logging.INFO)
        self._path = path
        self._flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (0 if append else os.O_EXCL)
        self._fd: int | None = None
        self._held_lines: list[str] = []
        self._is_held = is_held
        self.failure: str | None = None
        if not is_held:
            self.open()

    def open(self) -> None:
        """Creates the file and writes the lines kept in memory."""
        self._fd = os.open(self._path, self._flags | os.O_CLOEXEC, 0o644)
        self._is_held = False
        for line in self._held_lines:
            self.write(line)
        self._held_lines.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record; `logging` calls this."""
        if record.levelno > logging.INFO:  # mllog logs a warning for a value it cannot encode
            self.failure = record.getMessage()
            return
        self.write(record.getMessage())

    def write(self, line: str) -> None:
        """Writes a line; if that fails, removes the part that was written."""
        if self._is_held:
            self._held_lines.append(line)
            return
        if self._fd is None:
            return
        # Characters that UTF-8 cannot encode, such as lone surrogates, are escaped.
        data = (line + "\n").encode("utf-8", "backslashreplace")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            self.failure = error.strerror or str(error)
            # Remove the part that was written, so that the log contains only whole lines.
            if written:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)

    def sync(self) -> None:
        """Flushes all written lines to the disk."""
        if self._fd is not None:
            os.fsync(self._fd)

    def sync_and_close(self) -> None:
        """Flushes all lines to the disk and closes the file; later records are dropped."""
        self._is_held = False
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class _FileSink:
    """The common part of both dialects: one file, one lock, one clock.

    Args:
      path: The log; must not exist unless `append` is true.
      clock: The clock for the times of the records.
      append: Whether to append to an existing log.
      is_held: Whether to keep the records in memory until `open` is called.
    """

    def __init__(
        self, path: Path, clock: RunClock, append: bool = False, is_held: bool = False
    ):
        self.path = Path(path)
        self.clock = clock
        self._lock = threading.RLock()
        self._run_has_stopped = False
        self._file = _LineFile(self.path, append, is_held)

    def open(self) -> None:
        """Creates the log of a sink with `is_held`, and writes the records kept in memory.

        Raises:
          OSError: The log cannot be created or written.
        """
        with self._lock:
            self._file.open()
            self._raise_on_failure()

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Logs a fact, or an event without a duration."""
        self._record("POINT_IN_TIME", key, value, metadata)

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Logs the start of an interval; `key` ends in `_start`. Dropped after run_stop."""
        self._record("INTERVAL_START", key, value, metadata)

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        """Logs the end of an interval; `key` ends in `_stop`. Dropped after run_stop."""
        self._record("INTERVAL_END", key, value, metadata)

    def _record(self, event_type: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        """Writes a record, except for an interval after the end of the run."""
        with self._lock:
            # A thread of the engine may still be preparing the next epoch when the run ends.
            if event_type == "POINT_IN_TIME" or not self._run_has_stopped:
                self._write(event_type, key, value, metadata)
            self._run_has_stopped |= key == "run_stop"

    def _write(self, event_type: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        """Writes a record in the sink's dialect.

        `_record` must call it directly: another stack frame would change the call site in the
        record.
        """
        raise NotImplementedError

    def _check(self, key: str, value: Any, metadata: dict[str, Any]) -> tuple[Any, dict]:
        """Returns value and metadata as JSON types. Raises EventValueError."""
        if not {"file", "lineno"}.isdisjoint(metadata):
            raise EventValueError(f"{key}: metadata 'file' and 'lineno' are reserved for the log")
        return to_json_types(value, key), to_json_types(metadata, f"{key} metadata")

    def _raise_on_failure(self) -> None:
        """Raises LogWriteError if a record could not be written."""
        if self._file.failure is not None:
            raise LogWriteError(f"{self.path}: {self._file.failure}")

    def sync(self) -> None:
        """Flushes the log to the disk and keeps it open."""
        with self._lock:
            self._file.sync()

    def close(self) -> None:
        """Flushes the log to the disk and closes it; later records are dropped."""
        with self._lock:
            self._file.sync_and_close()


class MllogSink(_FileSink):
    """Writes MLLOG records with `mlperf_logging.mllog`.

    The call site in a record is the code that called `point`, `start` or `end`; its path is
    relative to the project.
    """

    def __init__(
        self, path: Path, clock: RunClock, append: bool = False, is_held: bool = False
    ):
        super().__init__(path, clock, append, is_held)
        # A logger outside logging's registry: a handler added to a shared logger
        # would write the lines of one run to the file of another run.
        logger = logging.Logger("neumf_run_log", level=logging.INFO)
        logger.addHandler(self._file)
        self._mllogger = mllog.mllog.MLLogger(
            logger=logger,
            default_stack_offset=_MLLOG_STACK_OFFSET,
            root_dir=_ROOT_PATTERN,
        )
        self._writers = {
            "POINT_IN_TIME": self._mllogger.event,
            "INTERVAL_START": self._mllogger.start,
            "INTERVAL_END": self._mllogger.end,
        }

    def _write(self, event_type: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        value, metadata = self._check(key, value, metadata)
        with self._lock:
            self._writers[event_type](
                key, value, metadata=metadata, time_ms=self.clock.now_ms()
            )
            self._raise_on_failure()


class V05Sink(_FileSink):
    """Writes the same events in the dialect of MLPerf Training v0.5."""

    def __init__(
        self, path: Path, clock: RunClock, append: bool = False, is_held: bool = False
    ):
        super().__init__(path, clock, append, is_held)
        self._translator = V05Translator()

    def _write(self, event_type: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        value, metadata = self._check(key, value, metadata)
        site = mllog.mllog.get_caller(_V05_STACK_INDEX, _ROOT_PATTERN)
        with self._lock:
            seconds, nanoseconds = divmod(self.clock.now_ns(), 1_000_000_000)
            time = f"{seconds}.{nanoseconds:09d}"
            head = f":::MLPv0.5.0 ncf {time} ({site['file']}:{site['lineno']})"
            records = self._translator.translate(key, value, metadata)
            # One write for all records of an event: run_stop is never written without run_final.
            if records:
                self._file.write("\n".join(f"{head} {tag}{text}" for tag, text in records))
            self._raise_on_failure()


def make_sink(
    log_format: str, path: Path, clock: RunClock, append: bool = False, is_held: bool = False
) -> MllogSink | V05Sink:
    """Creates the sink of a log.

    Args:
      log_format: The value of `--log_format`, "mllog" or "v0.5".
      path: The log; must not exist unless `append` is true.
      clock: The clock for the times of the records.
      append: Whether to append to an existing log.
      is_held: Whether to keep the records in memory until the sink is opened.
    """
    return (V05Sink if log_format == "v0.5" else MllogSink)(path, clock, append, is_held)


def record_time_ms(line: str) -> float | None:
    """Returns the time of a record of either dialect in ms; None for any other line."""
    if line.startswith(":::MLLOG "):
        try:
            return float(json.loads(line[len(":::MLLOG ") :])["time_ms"])
        except (ValueError, KeyError, TypeError):
            return None
    found = re.match(r":::MLPv0\.5\.0 \S+ (\d+\.?\d*) ", line)
    return float(found.group(1)) * 1000 if found else None
