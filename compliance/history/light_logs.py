"""Reads of each log what a history needs: the facts of its run, and its settings.

No rules are applied, which makes this several times as fast as `check`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import unsafe_path_reason
from compliance.checking.results import FileResult
from compliance.logs.dialects import LogReader
from compliance.logs.dialects.event import Event
from compliance.logs.run_summary import RunSummary
from compliance.logs.timeline import SETTINGS, V05_SETTINGS

# Further records whose first one describes the set.
_DESCRIPTIONS = frozenset(("source", "versions", "runtime"))
_KEYS = SETTINGS | frozenset(V05_SETTINGS) | _DESCRIPTIONS
# Members of `configuration` that say nothing about speed or epochs, or repeat the benchmark.
_LEFT_OUT = frozenset(("benchmark", "org", "track_name", "track_file"))
_MAX_SETTINGS = 200


@dataclass
class LightLog:
    """One log.

    Attributes:
      file: Digest, dialect and facts, in the form of a checker's result without violations.
      first_events: The first event of each key that describes the set.
      problem: Why the log cannot be used; None if it can.
    """

    file: FileResult
    first_events: dict[str, Event] = field(default_factory=dict)
    problem: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run by name: its configuration, device and versions."""
        found: dict[str, Any] = {}
        configuration = self.file.summary.first_events.get("configuration")
        if configuration is not None and isinstance(configuration.value, dict):
            found.update({name: value for name, value in configuration.value.items()
                          if name not in _LEFT_OUT})
        else:
            for key, event in self.first_events.items():
                if key not in _DESCRIPTIONS:
                    found[V05_SETTINGS.get(key, key)] = event.value
        versions = self.first_events.get("versions")
        if versions is not None and isinstance(versions.value, dict):
            found.update({f"version of {name}": value for name, value in versions.value.items()})
        device = self.first_events.get("device")
        if device is not None:
            found.update({f"device {name}": device.metadata[name]
                          for name in ("name", "threads") if name in device.metadata})
        return dict(list(found.items())[:_MAX_SETTINGS])

    @property
    def source(self) -> tuple[str | None, bool | None]:
        """The commit that ran, and whether the checkout had changes; None if unknown."""
        event = self.first_events.get("source")
        commit, dirty = (None, None) if event is None else (
            event.metadata.get("commit"), event.metadata.get("dirty"))
        return (commit if isinstance(commit, str) else None,
                dirty if isinstance(dirty, bool) else None)


def read_light_log(path: Path) -> LightLog:
    """Reads a log. Its content never raises, nor does a file that cannot be read."""
    log = LightLog(FileResult(str(path)))
    reason = unsafe_path_reason(path)
    if reason is None:
        try:
            _read(path, log)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        except Exception as error:  # noqa: BLE001 - a log that triggers a defect of the reader
            reason = f"cannot be read: {type(error).__name__}"
    if reason is None and log.file.dialect is None:
        reason = "contains no record of a known dialect"
    if reason is None and not log.file.summary.is_complete:
        reason = "is incomplete: it has no run_stop"
    if reason is None and log.file.summary.seconds is None:
        reason = "has no time from run_start to run_stop"
    if reason is not None:
        log.problem, log.file.unreadable = f"{path.name} {reason}", True
    return log


def _read(path: Path, log: LightLog) -> None:
    reader = LogReader(path)
    summary: RunSummary | None = None
    wanted = frozenset(RunSummary.KEYS)
    for items in reader.blocks():
        if summary is None and reader.dialect is not None:
            log.file.dialect = reader.dialect.name
            summary = RunSummary(reader.dialect.name, reader.dialect.ticks_per_second)
            log.file.summary = summary
        for item in items:
            key = item.key
            if key in wanted:
                summary.observe(item)
            if key in _KEYS:
                log.first_events.setdefault(key, item)
    log.file.sha256, log.file.content_sha256 = reader.sha256, reader.content_sha256
