"""The callback through which long data operations report progress."""

from __future__ import annotations

from typing import Callable

# Called as progress(text, done, total). If `done` is None, `text` is a one-line notice that stays
# visible. Otherwise `text` names the operation, `done` is the number of bytes (or other units)
# processed so far, and `total` is their total number, or None if unknown.
Progress = Callable[[str, "int | None", "int | None"], None]


def no_progress(text: str, done: int | None = None, total: int | None = None) -> None:
    """A progress callback that ignores everything."""
