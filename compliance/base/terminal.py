"""When something may move or have colour: on a terminal that wants it, and nowhere else."""

from __future__ import annotations

import os
import re
from typing import TextIO

_BOLD, _GREEN, _RED, _PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
_COLOURS = {"PASS": _GREEN, "valid": _GREEN, "CONFIRMED": _GREEN, "FAIL": _RED,
            "UNREADABLE": _RED, "UNRESOLVED": _RED, "INTERRUPTED": _RED, "REFUTED": _RED}


def is_live(stream: TextIO) -> bool:
    """Whether lines on the stream can be written over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(line: str, stream: TextIO) -> str:
    """A verdict, its first word in colour where the stream takes colour (no-color.org)."""
    word = re.match(r"\w+", line)
    colour = _COLOURS.get(word[0]) if word else None
    if colour is None or not is_live(stream) or os.environ.get("NO_COLOR"):
        return line
    return f"{_BOLD}{colour}{word[0]}{_PLAIN}{line[word.end():]}"
