"""How the processes of a comparison are ended, and how their logs say why they failed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

_MAX_LINE_LENGTH = 200


def kill_process_group(child: subprocess.Popen) -> None:
    """Kills a child that leads a session of its own, and every process that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_log_line(log: Path) -> str:
    """Returns the last line of a process's log, which says why it failed, and the log's path."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:_MAX_LINE_LENGTH] if lines else "it said nothing"
    return f"{last} (output: {log})"
