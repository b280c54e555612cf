"""A clock for the stages before the first epoch, with the usual duration of each stage.

On a terminal, the live line shows the elapsed seconds: "run 1/5 seed 7: compiling, usually 9 s
(4 s)". The usual duration is that of the last run with the same settings on this machine. It is
kept in a small file in the data folder. The file only affects what is displayed.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from harness.base import output_files
from harness.base.console import Console

_FILE_NAME = "stage_seconds.json"
# Settings whose durations are kept; beyond this number the oldest are dropped.
_MAX_SETTINGS = 32
# Stages shorter than this need no expectation.
_MIN_USUAL_SECONDS = 1.5


class StageClock:
    """Shows one stage at a time and records its duration.

    Args:
      console: Shows the stages.
      folder: The data folder, which contains the file of durations.
      settings: Identifies the settings on which the durations depend.
    """

    def __init__(self, console: Console, folder: Path, settings: str):
        self._console, self._settings = console, settings
        self._path = folder / _FILE_NAME
        self._usual = _read(self._path).get(settings, {})
        self._measured: dict[str, float] = {}
        self._stage, self._text, self._began = "", "", 0.0
        self._lock = threading.Lock()
        self._stopped: threading.Event | None = None

    def begin(self, stage: str, text: str, lasting: bool) -> None:
        """Ends the current stage and shows the next one.

        Args:
          stage: Name of the stage.
          text: The line for the user, which ends with the name of the stage.
          lasting: As in `Console.progress`.
        """
        self.end()
        usual = self._usual.get(stage, 0.0)
        if usual >= _MIN_USUAL_SECONDS:
            text += f", usually {usual:.0f} s"
        self._stage, self._text, self._began = stage, text, time.monotonic()
        self._console.progress(text, lasting=lasting)
        if self._console.is_terminal:
            self._stopped = threading.Event()
            threading.Thread(target=self._tick, args=(self._stopped,), daemon=True).start()

    def end(self) -> None:
        """Ends the current stage, if there is one; the live line shows no clock after this."""
        if not self._stage:
            return
        with self._lock:  # a tick that has begun is finished first
            if self._stopped is not None:
                self._stopped.set()
            self._stopped = None
        self._measured[self._stage] = time.monotonic() - self._began
        self._stage = ""

    def save(self) -> None:
        """Ends the current stage and writes the durations; a failure is ignored."""
        self.end()
        if not self._measured:
            return
        durations = _read(self._path)
        durations.pop(self._settings, None)  # moves the settings to the end
        durations[self._settings] = {name: round(x, 1) for name, x in self._measured.items()}
        kept = dict(list(durations.items())[-_MAX_SETTINGS:])
        try:
            output_files.write_json(self._path, kept)
        except OSError:
            pass

    def _tick(self, stopped: threading.Event) -> None:
        """Shows the elapsed seconds once per second."""
        while not stopped.wait(1):
            with self._lock:
                if stopped.is_set():
                    return
                elapsed = time.monotonic() - self._began
                self._console.progress(f"{self._text} ({elapsed:.0f} s)", lasting=False)


def _read(path: Path) -> dict[str, dict[str, float]]:
    """Reads the file of durations; returns nothing if it is missing or damaged."""
    try:
        durations = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(settings): {str(name): float(x) for name, x in stages.items()}
            for settings, stages in durations.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
