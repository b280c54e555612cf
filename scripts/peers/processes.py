"""Functions to end the processes of a comparison and to read the reason of a failure."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

_MAX_LINE_LENGTH = 200


def kill_process_group(child: subprocess.Popen) -> None:
    """Kills a child that is the leader of its process group, and all processes in the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_log_line(log: Path) -> str:
    """Returns the last line of a failed process's log, which is its error, and the log's path."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:_MAX_LINE_LENGTH] if lines else "no output"
    return f"{last} (output: {log})"
