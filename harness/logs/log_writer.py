"""The only writer of run logs: MLLOG records, or the same run in the v0.5 dialect.

A sink belongs to one run and one file. Every record is written with one system
call, so that a killed process leaves whole lines; a write that fails raises
instead of losing a record. Sinks may be called from several threads.
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
from harness.logs.v05_translator import V05Translator

PROJECT_ROOT = str(Path(__file__).resolve().parents[2])

# How far the reporting code is from MLLogger.event: point/start/end, _record, _write.
_MLLOG_STACK_OFFSET = 4
# The same counted from mllog's get_caller itself.
_V05_STACK_INDEX = 4


class EventValueError(ValueError):
    """A value that the log cannot carry without dropping or changing it."""


class LogWriteError(OSError):
    """The log file could not be written; the run cannot go on without it."""


def plain(value: Any, what: str) -> Any:
    """`value` as plain JSON types; numpy scalars and arrays are converted.

    Raises:
      EventValueError: NaN, an infinity, or a type that JSON does not have.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EventValueError(f"{what} is {value}; a log carries finite numbers only")
        return value
    if isinstance(value, (list, tuple)):
        return [plain(element, f"{what}[{i}]") for i, element in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise EventValueError(f"{what} has the key {key!r}; keys must be text")
        return {key: plain(element, f"{what}.{key}") for key, element in value.items()}
    raise EventValueError(f"{what} is of type {type(value).__name__}, which JSON has not")


class _LineFile(logging.Handler):
    """Appends each record as one line with one write; remembers a failure."""

    def __init__(self, path: Path, append: bool):
        super().__init__(level=logging.INFO)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (0 if append else os.O_EXCL)
        self._fd: int | None = os.open(path, flags | os.O_CLOEXEC, 0o644)
        self.failure: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.INFO:  # mllog reports what it could not encode
            self.failure = record.getMessage()
            return
        self.write(record.getMessage())

    def write(self, line: str) -> None:
        """Writes a line whole or not at all."""
        if self._fd is None:
            return
        data = (line + "\n").encode("utf-8", "backslashreplace")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            self.failure = error.strerror or str(error)
            if written:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)

    def sync(self) -> None:
        """What was written so far is on the disk when this returns."""
        if self._fd is not None:
            os.fsync(self._fd)

    def sync_and_close(self) -> None:
        """Everything is on the disk when this returns; later records are dropped."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class _FileSink:
    """What both dialects share: one file, one lock, one clock."""

    def __init__(self, path: Path, clock: RunClock, append: bool = False):
        self.path = Path(path)
        self.clock = clock
        self._lock = threading.RLock()
        self._run_over = False
        self._file = _LineFile(self.path, append)

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        """A fact, or something that happened at this moment."""
        self._record("POINT_IN_TIME", key, value, metadata)

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        """An interval begins; `key` ends in `_start`. Dropped after run_stop."""
        self._record("INTERVAL_START", key, value, metadata)

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        """The interval ends; `key` ends in `_stop`. Dropped after run_stop."""
        self._record("INTERVAL_END", key, value, metadata)

    def _record(self, kind: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        with self._lock:
            # An engine's thread may still be at the next epoch when the run ends.
            if kind == "POINT_IN_TIME" or not self._run_over:
                self._write(kind, key, value, metadata)
            self._run_over |= key == "run_stop"

    def _write(self, kind: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        raise NotImplementedError

    def _check(self, key: str, value: Any, metadata: dict[str, Any]) -> tuple[Any, dict]:
        if not {"file", "lineno"}.isdisjoint(metadata):
            raise EventValueError(f"{key}: 'file' and 'lineno' are the log's own metadata")
        return plain(value, key), plain(metadata, f"{key} metadata")

    def _raise_failure(self) -> None:
        if self._file.failure is not None:
            raise LogWriteError(f"{self.path}: {self._file.failure}")

    def sync(self) -> None:
        """Flushes to the disk; the log stays open."""
        with self._lock:
            self._file.sync()

    def close(self) -> None:
        """Flushes to the disk and closes; what comes later is dropped."""
        with self._lock:
            self._file.sync_and_close()


class MllogSink(_FileSink):
    """Writes MLLOG through `mlperf_logging.mllog`.

    The call site in each record is the code that called `point`, `start` or
    `end`, as a path relative to the project.
    """

    def __init__(self, path: Path, clock: RunClock, append: bool = False):
        super().__init__(path, clock, append)
        # A logger outside logging's registry: a handler added to a shared one
        # would send one run's lines into another run's file.
        logger = logging.Logger("neumf_run_log", level=logging.INFO)
        logger.addHandler(self._file)
        self._mllogger = mllog.mllog.MLLogger(
            logger=logger,
            default_stack_offset=_MLLOG_STACK_OFFSET,
            root_dir=re.escape(PROJECT_ROOT),  # mllog uses it as a pattern
        )
        self._writers = {
            "POINT_IN_TIME": self._mllogger.event,
            "INTERVAL_START": self._mllogger.start,
            "INTERVAL_END": self._mllogger.end,
        }

    def _write(self, kind: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        value, metadata = self._check(key, value, metadata)
        with self._lock:
            self._writers[kind](
                key, value, metadata=metadata, time_ms=self.clock.now_ms()
            )
            self._raise_failure()


class V05Sink(_FileSink):
    """Writes the same events in the dialect of MLPerf Training v0.5."""

    def __init__(self, path: Path, clock: RunClock, append: bool = False):
        super().__init__(path, clock, append)
        self._translator = V05Translator()

    def _write(self, kind: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        value, metadata = self._check(key, value, metadata)
        site = mllog.mllog.get_caller(_V05_STACK_INDEX, re.escape(PROJECT_ROOT))
        with self._lock:
            seconds, rest = divmod(self.clock.now_ns(), 1_000_000_000)
            head = f":::MLPv0.5.0 ncf {seconds}.{rest:09d} ({site['file']}:{site['lineno']})"
            found = self._translator.translate(key, value, metadata)
            if found:  # all at once: run_stop is never there without run_final
                self._file.write("\n".join(f"{head} {tag}{text}" for tag, text in found))
            self._raise_failure()


def make_sink(
    log_format: str, path: Path, clock: RunClock, append: bool = False
) -> MllogSink | V05Sink:
    """The sink of a `--log_format`; `append` continues an existing file."""
    return (V05Sink if log_format == "v0.5" else MllogSink)(path, clock, append)


def last_time_ms(line: str) -> float | None:
    """The time of one record of either dialect in ms; None if it is not one."""
    if line.startswith(":::MLLOG "):
        try:
            return float(json.loads(line[len(":::MLLOG ") :])["time_ms"])
        except (ValueError, KeyError, TypeError):
            return None
    found = re.match(r":::MLPv0\.5\.0 \S+ (\d+\.?\d*) ", line)
    return float(found.group(1)) * 1000 if found else None
