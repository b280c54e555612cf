"""What every measuring process of a comparison needs from the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path


def end(child: subprocess.Popen) -> None:
    """Kills a child that was started in a session of its own, with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_words(log: Path) -> str:
    """The last line of a process's log, which says why it failed, and where the rest is."""
    rows = [row for row in log.read_text(errors="replace").splitlines() if row.strip()]
    return f"{rows[-1][:200] if rows else 'it said nothing'} (output: {log})"
