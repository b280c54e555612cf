"""The callback through which long operations on data report their progress."""

from __future__ import annotations

from typing import Callable

# Called as progress(text, done, total). Where `done` is None, `text` is a notice of one line
# that the user should keep. Otherwise `text` names the operation in progress, `done` counts
# bytes (or other units), and `total` is their number, or None where it is unknown.
Progress = Callable[[str, "int | None", "int | None"], None]


def no_progress(text: str, done: int | None = None, total: int | None = None) -> None:
    """A progress callback that ignores everything."""
