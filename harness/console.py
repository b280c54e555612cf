"""What a person sees: settings, a line per epoch, the table, the verdict.

On a terminal the line of the current epoch is written over the last one; in a
pipe each epoch has its own line. Nothing is wider than 80 columns but paths.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from dataclasses import dataclass
from typing import Any, TextIO

WIDTH = 80
_BOLD, _GREEN, _RED, _PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
_CLEAR_LINE = "\r\x1b[K"


def short_count(value: float) -> str:
    """A count in at most five characters: 950, 9.5k, 1.23M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"


def short_seconds(seconds: float) -> str:
    """Seconds for a line of progress: 0.42s, 12.3s, 4:05, 1:02:03."""
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def epoch_line(
    run: int, num_runs: int, stats: dict[str, Any], target: float | None, epochs_left: int,
    mean_seconds: float, top_k: int = 10,
) -> str:  # fmt: skip
    """One epoch: HR, loss, examples/s, seconds, at most how long the run still takes.

    `epochs_left` counts to the cap, `mean_seconds` is the pace so far.
    """
    goal = f" / {target:.4f}" if target is not None else ""
    seconds = stats["train_seconds"] + stats["eval_seconds"]
    left = f"  <{short_seconds(epochs_left * mean_seconds)} left" if epochs_left else ""
    line = (
        f"run {run + 1}/{num_runs} ep {stats['epoch']:<2} HR@{top_k} {stats['hr']:.4f}{goal}"
        f"  loss {stats['loss']:.4f}  {short_count(stats['throughput'])} ex/s"
        f"  {short_seconds(seconds)}{left}"
    )
    return line if len(line) <= WIDTH else line.removeprefix("run ").replace("  ", " ")


@dataclass(frozen=True)
class RunRow:
    """One run in the closing table."""

    run: int
    seed: int | None
    epochs: int
    accuracy: float | None
    seconds: float | None
    outcome: str


def run_table(rows: list[RunRow]) -> str:
    """The table of runs: number, seed, epochs, last HR, seconds, how it ended."""
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
    """Writes to a person's terminal or to a pipe; `quiet` leaves out progress."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False):
        self._stream = sys.stdout if stream is None else stream
        self._quiet = quiet
        self.is_terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self.is_terminal and not os.environ.get("NO_COLOR")
        self._live = False
        self._lock = threading.Lock()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # the reader has gone; the logs are what counts

    def line(self, text: str) -> None:
        """A line that stays, also when quiet."""
        with self._lock:
            self._end_live()
            self._write(text + "\n")

    def note(self, text: str) -> None:
        """A line that stays; left out when quiet."""
        if not self._quiet:
            self.line(text)

    def progress(self, text: str, lasting: bool = True) -> None:
        """A line that the next one replaces on a terminal.

        In a pipe it is a line of its own if it is `lasting`, else left out.
        """
        if self._quiet:
            return
        with self._lock:
            if self.is_terminal:
                self._write(_CLEAR_LINE + _fit(text))
                self._live = True
            elif lasting:
                self._write(text + "\n")

    def keep(self) -> None:
        """What the live line shows stays."""
        with self._lock:
            if self._live:
                self._write("\n")
                self._live = False

    def _end_live(self) -> None:
        if self._live:
            self._write(_CLEAR_LINE)
            self._live = False

    def verdict(self, text: str) -> None:
        """The last line: coloured by its first word on a terminal."""
        word = re.match(r"\w+", text)
        if self._colour and word:
            colour = {"PASS": _GREEN, "valid": _GREEN}.get(word.group(0), _RED)
            text = f"{_BOLD}{colour}{word.group(0)}{_PLAIN}{text[word.end():]}"
        self.line(text)


def _fit(text: str) -> str:
    """Cuts a live line to the terminal: one that wraps cannot be overwritten."""
    try:
        columns = os.get_terminal_size().columns
    except OSError:
        columns = 0
    return text[: (columns or WIDTH + 1) - 1]  # some terminals say 0
