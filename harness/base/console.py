"""What a person sees: settings, a line per epoch, the table, the verdict.

On a terminal the line of the current epoch is written over the last one, on standard
error; in a pipe each epoch has its own line, on standard output, as all that stays.
Nothing is wider than 80 columns but paths.
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
    """Writes to a person's terminal or to a pipe; `quiet` leaves out progress.

    What stays goes to `stream` (standard output), what is written over to `live`
    (standard error), and only where that is a terminal.
    """

    def __init__(
        self, stream: TextIO | None = None, quiet: bool = False, live: TextIO | None = None
    ):
        self._stream = sys.stdout if stream is None else stream
        self._live = live or (sys.stderr if stream is None else stream)
        self._quiet = quiet
        self.is_terminal = terminal.is_live(self._live)
        self._stays_live = self.is_terminal and terminal.is_live(self._stream)
        self._shown = ""  # the live line
        self._lasting = ""  # the last one that should stay
        self._lock = threading.Lock()

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # the reader has gone; the logs are what counts

    def line(self, text: str) -> None:
        """A line that stays, also when quiet; on a terminal broken at words."""
        with self._lock:
            self._end_live()
            self._write(self._stream, self._wrapped(text) + "\n")

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
            if lasting and not self._stays_live:
                self._end_live()
                self._write(self._stream, text + "\n")
            if self.is_terminal and (self._stays_live or not lasting):
                self._write(self._live, _CLEAR_LINE + _fit(text, self._live))
                self._shown = text
                self._lasting = text if lasting else self._lasting

    def keep(self) -> None:
        """The last live line that should stay does."""
        with self._lock:
            if self._lasting and self._shown:
                again = "" if self._shown == self._lasting else (
                    _CLEAR_LINE + _fit(self._lasting, self._live))
                self._write(self._live, again + "\n")
                self._shown = self._lasting = ""
            self._end_live()

    def _end_live(self) -> None:
        if self._shown:
            self._write(self._live, _CLEAR_LINE)
        self._shown = self._lasting = ""

    def verdict(self, text: str) -> None:
        """The last line, whole: coloured by its first word on a terminal."""
        with self._lock:
            self._end_live()
            self._write(self._stream, terminal.painted(text, self._stream) + "\n")

    def _wrapped(self, text: str) -> str:
        """Lines that are too long for a terminal, broken at words and indented."""
        if not terminal.is_live(self._stream):
            return text
        width = _columns(self._stream)
        return "\n".join(
            line if len(line) <= width else textwrap.fill(
                line, width, subsequent_indent="  ", break_long_words=False,
                break_on_hyphens=False)
            for line in text.split("\n"))


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH  # some say 0
    except (OSError, ValueError):
        return WIDTH


def _fit(text: str, stream: TextIO) -> str:
    """Cuts a live line to the terminal: one that wraps cannot be overwritten."""
    return text[: _columns(stream) - 1]
