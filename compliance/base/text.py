"""Text from logs, files and paths, made short and safe for messages.

Such text may be megabytes long and may contain control characters that affect a terminal.
"""

from __future__ import annotations

import json
from typing import Any


def printable_line(text: Any) -> str:
    """Returns the text on one line, with unprintable characters escaped.

    Args:
      text: The text, or any value that `str` converts to text.
    """
    text = str(text)
    return text if text.isprintable() else "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shorten(text: str, limit: int) -> str:
    """Returns the text, or its beginning and `...` if it is longer than the limit.

    Args:
      text: Any text.
      limit: The largest number of characters in the result.
    """
    return text if len(text) <= limit else text[:limit - 3] + "..."


def format_value(value: Any, limit: int = 60) -> str:
    """Formats a logged value for a message: as JSON in ASCII, on one line, shortened.

    Args:
      value: A value decoded from JSON.
      limit: The largest number of characters in the result.
    """
    if isinstance(value, (str, list)):
        # Cut before encoding, so that a value of megabytes costs nothing.
        value = value[:limit + 1]
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = ascii(type(value).__name__)
    return shorten(text, limit)
