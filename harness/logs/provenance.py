"""What a log carries so that somebody who was not there can trust it.

Said before `init_start`, so that no clock pays for it: the source, the versions, the
whole configuration and the clock. What was drawn is told after `run_stop`
(`harness.logs.data_digests`).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from harness.base import machine
from harness.config.run_config import RunConfig
from reference_model.events import EventSink

# What may take part in a run; tests, documents and results may not.
SOURCE_FOLDERS = ("compliance", "harness", "reference_model")
SOURCE_SUFFIXES = (".py", ".yaml", ".json")
_CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def source_digest(root: Path = machine.PROJECT_ROOT) -> str:
    """SHA-256 over the source: for each file, in order of its path with slashes, a line
    of the SHA-256 of its bytes, two spaces and the path, as `sha256sum` prints it."""
    found = hashlib.sha256()
    paths = [p for name in SOURCE_FOLDERS for p in (root / name).rglob("*")]
    names = {p.relative_to(root).as_posix(): p for p in paths if p.suffix in SOURCE_SUFFIXES}
    for name in sorted(names):
        if "__pycache__" not in name and names[name].is_file():
            digest = hashlib.sha256(names[name].read_bytes()).hexdigest()
            found.update(f"{digest}  {name}\n".encode())
    return found.hexdigest()


def configuration(config: RunConfig) -> dict[str, Any]:
    """All settings that a run depends on, by the names of `RunConfig`; no paths, and no
    addresses or names of projects: logs are published."""
    private = {"profile_dir", "tpu", "tpu_zone", "tpu_project", "data_url"}
    settings = {k: v for k, v in config.set_settings().items() if k not in private}
    profiled = config.profile_dir is not None
    return {**settings, "clear_caches": config.clear_caches, "profiled": profiled}


def clock_source() -> str:
    """What the kernel counts time with, such as "tsc"; "unknown" where it does not say."""
    try:
        return _CLOCKSOURCE.read_text(encoding="ascii").strip()[:64] or "unknown"
    except (OSError, ValueError):
        return "unknown"


def say(sink: EventSink, config: RunConfig) -> None:
    """Tells the sink all of it."""
    state = machine.source_state(config.system_dir)
    sink.point("source", source_digest(), commit=state["commit"], dirty=state["dirty"])
    sink.point("versions", machine.versions())
    sink.point("configuration", configuration(config))
    monotonic, wall = time.get_clock_info("monotonic"), time.get_clock_info("time")
    sink.point(
        "clock_source",
        clock_source(),
        durations=monotonic.implementation,
        dates=wall.implementation,
        resolution_s=monotonic.resolution,
    )
