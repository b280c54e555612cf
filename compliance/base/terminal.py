"""Decides whether output may be animated or coloured: only on a terminal that supports it."""

from __future__ import annotations

import os
import re
from typing import TextIO

# ANSI escape sequences.
_BOLD, _GREEN, _RED, _RESET = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
# The words at the beginning of a verdict line and their colour.
_COLOURS = {"PASS": _GREEN, "valid": _GREEN, "compliant": _GREEN, "CONFIRMED": _GREEN,
            "FAIL": _RED, "not compliant": _RED, "unreadable": _RED, "UNRESOLVED": _RED, "INTERRUPTED": _RED, "REFUTED": _RED}


def is_live(stream: TextIO) -> bool:
    """Returns whether the next line on the stream can overwrite the current one."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colour_verdict(line: str, stream: TextIO) -> str:
    """Colours the verdict at the beginning of a line, if the stream supports colour.

    The environment variable NO_COLOR turns colors off (no-color.org).

    Args:
      line: A line that begins with a verdict, such as PASS or FAIL.
      stream: The stream to which the line will be written.

    Returns:
      The line; unchanged if it does not begin with a verdict or colours are off.
    """
    word = re.match(r"not compliant\b|\w+", line)
    colour = _COLOURS.get(word[0]) if word else None
    if colour is None or not is_live(stream) or os.environ.get("NO_COLOR"):
        return line
    return f"{_BOLD}{colour}{word[0]}{_RESET}{line[word.end():]}"
