"""Logs the provenance of a run, so that a third party can trust the log.

Source, library versions, the whole configuration and the clock are logged before
`init_start`, so they are not part of the timed run. Digests of the drawn data are logged
after `run_stop` (`harness.logs.data_digests`).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, Sequence

from harness.base import machine
from harness.config.run_config import RunConfig
from reference_model.events import EventSink

# Files that may affect a run; tests, documents and results cannot.
SOURCE_FOLDERS = ("compliance", "harness", "reference_model")
SOURCE_SUFFIXES = (".py", ".yaml", ".json")
_CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def source_digest(
    root: Path = machine.PROJECT_ROOT, folders: Sequence[str] = SOURCE_FOLDERS
) -> str:
    """Computes the SHA-256 (hex) of the source tree.

    The hash covers one line per file, sorted by path. A line contains the SHA-256 of the
    file's bytes, two spaces and the file's path with slashes, as printed by `sha256sum`.

    Args:
      root: Folder of the project.
      folders: Folders of `root` that count.
    """
    tree_digest = hashlib.sha256()
    paths = [p for name in folders for p in (root / name).rglob("*")]
    names = {p.relative_to(root).as_posix(): p for p in paths if p.suffix in SOURCE_SUFFIXES}
    for name in sorted(names):
        if "__pycache__" not in name and names[name].is_file():
            digest = hashlib.sha256(names[name].read_bytes()).hexdigest()
            tree_digest.update(f"{digest}  {name}\n".encode())
    return tree_digest.hexdigest()


def logged_configuration(config: RunConfig) -> dict[str, Any]:
    """Returns all settings that a run depends on, by `RunConfig` field name.

    Logs are published, so paths, addresses and project names are left out.
    """
    private = {"profile_dir", "tpu", "tpu_zone", "tpu_project", "data_url"}
    settings = {k: v for k, v in config.shared_settings().items() if k not in private}
    profiled = config.profile_dir is not None
    return {**settings, "clear_caches": config.clear_caches, "profiled": profiled}


def clock_source() -> str:
    """Returns the kernel's clock source, such as "tsc"; "unknown" if it cannot be read."""
    try:
        return _CLOCKSOURCE.read_text(encoding="ascii").strip()[:64] or "unknown"
    except (OSError, ValueError):
        return "unknown"


def log_provenance(sink: EventSink, config: RunConfig) -> None:
    """Logs source, versions, configuration and clock of a run."""
    state = machine.source_state(config.system_dir)
    sink.point("source", source_digest(), commit=state["commit"], dirty=state["dirty"])
    sink.point("versions", machine.versions())
    sink.point("configuration", logged_configuration(config))
    monotonic, wall = time.get_clock_info("monotonic"), time.get_clock_info("time")
    sink.point(
        "clock_source",
        clock_source(),
        durations=monotonic.implementation,
        dates=wall.implementation,
        resolution_s=monotonic.resolution,
    )
