"""Console output of the harness: settings, a line per epoch, the table, the verdict.

On a terminal, the line of the current epoch overwrites the previous one on standard
error. In a pipe, each epoch has its own line on standard output, like all permanent
lines. Only lines with paths are wider than 80 columns.
"""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from dataclasses import dataclass
from typing import Any, TextIO

from compliance.base import terminal

WIDTH = 80
# Carriage return, then the ANSI sequence that erases to the end of the line.
_CLEAR_LINE = "\r\x1b[K"


def format_count(value: float) -> str:
    """Formats a count with three digits, in at most five characters: 950, 9.50k, 12.3M."""
    # From 0.9995 of a unit, rounding to three digits would give 1000 of the next smaller unit.
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            scaled = value / limit
            decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{decimals}f}{unit}"
    return f"{value:.0f}"


def format_seconds(seconds: float) -> str:
    """Formats seconds for a progress line: 0.42s, 12.3s, 4:05, 1:02:03."""
    # From these limits on, rounding would add a digit before the decimal point.
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, remainder = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{remainder:02}" if hours else f"{minutes}:{remainder:02}"


def format_epoch_line(
    run: int, num_runs: int, stats: dict[str, Any], target: float | None, epochs_left: int,
    mean_seconds: float, top_k: int = 10,
) -> str:  # fmt: skip
    """Formats the progress line of one epoch.

    Args:
      run: Number of the run in its set, from 0.
      num_runs: Runs in the set.
      stats: "epoch" (from 1), "hr", "loss", "throughput" (examples per second),
        "train_seconds" and "eval_seconds".
      target: Hit rate to reach; None if the track has no target.
      epochs_left: Epochs to the cap; 0 omits the estimate of the remaining time.
      mean_seconds: Mean seconds of the epochs so far.
      top_k: K of HR@K.

    Returns:
      Hit rate, loss, examples per second, seconds of the epoch and an upper bound on the
      run's remaining time.
    """
    goal = f" / {target:.4f}" if target is not None else ""
    seconds = stats["train_seconds"] + stats["eval_seconds"]
    remaining = f" <{format_seconds(epochs_left * mean_seconds)} left" if epochs_left else ""
    line = (
        f"run {run + 1}/{num_runs} ep {stats['epoch']:<2} HR@{top_k} {stats['hr']:.4f}{goal}"
        f"  loss {stats['loss']:.4f}  {format_count(stats['throughput']):>5} ex/s"
        f"  {format_seconds(seconds)}{remaining}"
    )
    # A line that is too long is shortened: no "run ", and single spaces.
    return line if len(line) < WIDTH else " ".join(line.removeprefix("run ").split())


@dataclass(frozen=True)
class RunRow:
    """One row of the closing table.

    Attributes:
      run: Number of the run in its set, from 0.
      seed: The run's seed; None if the log does not record it.
      epochs: Number of evaluations in the log.
      accuracy: Hit rate of the last epoch.
      seconds: From run_start to run_stop.
      outcome: How the run ended, in a few words.
    """

    run: int
    seed: int | None
    epochs: int
    accuracy: float | None
    seconds: float | None
    outcome: str


def format_run_table(rows: list[RunRow]) -> str:
    """Formats the table of runs: number, seed, epochs, last HR, seconds, outcome."""
    lines = [f"{'run':>3}  {'seed':>10}  {'epochs':>6}  {'HR':>8}  {'seconds':>9}  outcome"]
    for row in rows:
        seed = "-" if row.seed is None else str(row.seed)
        accuracy = "-" if row.accuracy is None else f"{row.accuracy:.6f}"
        seconds = "-" if row.seconds is None else f"{row.seconds:.3f}"
        lines.append(
            f"{row.run:>3}  {seed:>10}  {row.epochs:>6}  {accuracy:>8}  {seconds:>9}"
            f"  {row.outcome}"
        )
    return "\n".join(lines)


class Console:
    """Writes permanent lines and progress to a terminal or a pipe.

    All methods are thread-safe.

    Args:
      stream: Receives permanent lines; standard output by default.
      quiet: Suppresses notes and progress.
      live: Receives the live line, which each progress message overwrites, if it is a
        terminal; standard error by default, or `stream` if that is given.

    Attributes:
      is_terminal: Whether the live line is shown.
    """

    def __init__(
        self, stream: TextIO | None = None, quiet: bool = False, live: TextIO | None = None
    ):
        self._stream = sys.stdout if stream is None else stream
        self._live = live or (sys.stderr if stream is None else stream)
        self._quiet = quiet
        self.is_terminal = terminal.is_live(self._live)
        # If both streams are terminals, even lasting progress is a live line.
        self._both_live = self.is_terminal and terminal.is_live(self._stream)
        self._live_line = ""  # the live line on the screen; empty if there is none
        self._lasting_line = ""  # the last live line that `keep_progress_line` may keep
        self._lock = threading.Lock()

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # the reader closed the pipe; the run continues, its result is in the log

    def line(self, text: str) -> None:
        """Writes a permanent line, even if quiet; wraps it between words on a terminal."""
        with self._lock:
            self._clear_live_line()
            self._write(self._stream, self._wrap(text) + "\n")

    def note(self, text: str) -> None:
        """Writes a permanent line unless quiet."""
        if not self._quiet:
            self.line(text)

    def progress(self, text: str, lasting: bool = True) -> None:
        """Shows a line that the next progress message overwrites on a terminal.

        Args:
          text: One line.
          lasting: In a pipe, the line is written as a permanent one; a line that is not
            lasting is omitted. On a terminal, `keep_progress_line` can keep a lasting line.
        """
        if self._quiet:
            return
        with self._lock:
            if lasting and not self._both_live:
                self._clear_live_line()
                self._write(self._stream, text + "\n")
            if self.is_terminal and (self._both_live or not lasting):
                self._write(self._live, _CLEAR_LINE + _truncate(text, self._live))
                self._live_line = text
                self._lasting_line = text if lasting else self._lasting_line

    def keep_progress_line(self) -> None:
        """Makes the last lasting progress line permanent and ends the live line."""
        with self._lock:
            if self._lasting_line and self._live_line:
                # A transient line, such as a stage, may have replaced the lasting one.
                again = "" if self._live_line == self._lasting_line else (
                    _CLEAR_LINE + _truncate(self._lasting_line, self._live))
                self._write(self._live, again + "\n")
                self._live_line = self._lasting_line = ""
            self._clear_live_line()

    def _clear_live_line(self) -> None:
        """Erases the live line, so that a permanent one can follow."""
        if self._live_line:
            self._write(self._live, _CLEAR_LINE)
        self._live_line = self._lasting_line = ""

    def verdict(self, text: str) -> None:
        """Writes the last line, unwrapped; a terminal shows its first word in color."""
        with self._lock:
            self._clear_live_line()
            self._write(self._stream, terminal.colour_verdict(text, self._stream) + "\n")

    def _wrap(self, text: str) -> str:
        """Wraps lines that are too long for a terminal and indents their continuation."""
        if not terminal.is_live(self._stream):
            return text
        width = _columns(self._stream)
        return "\n".join(
            line if len(line) <= width else textwrap.fill(
                line, width, subsequent_indent="  ", break_long_words=False,
                break_on_hyphens=False)
            for line in text.split("\n"))


def _columns(stream: TextIO) -> int:
    """Returns the width of a terminal in columns."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH  # some terminals report 0
    except (OSError, ValueError):
        return WIDTH


def _truncate(text: str, stream: TextIO) -> str:
    """Cuts a live line to the terminal's width; a wrapped line cannot be overwritten."""
    return text[: _columns(stream) - 1]
