"""TODO."""

from __future__ import annotations

from typing import Callable

# Called as progress(text, done, total). `done` None: `text` is a notice for the
# user, one line, to be kept. Else `text` says what is under way, `done` counts
# bytes and `total` is their number or None where it is unknown.
Progress = Callable[[str, "int | None", "int | None"], None]


def no_progress(text: str, done: int | None = None, total: int | None = None) -> None:
    """The progress callback of those who do not look."""
