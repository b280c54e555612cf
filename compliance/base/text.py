"""Text that a log, a file or a path chose, made short and harmless for messages.

Such text may be megabytes long and may hold control characters that would act on a
terminal.
"""

from __future__ import annotations

import json
from typing import Any


def printable_line(text: Any) -> str:
    """Returns the text on one line, with characters that cannot be printed escaped.

    Args:
      text: The text, or anything that `str` turns into text.
    """
    text = str(text)
    return text if text.isprintable() else "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shorten(text: str, limit: int) -> str:
    """Returns the text, or its beginning and `...` where it is longer than the limit.

    Args:
      text: Any text.
      limit: The largest number of characters in the result.
    """
    return text if len(text) <= limit else text[:limit - 3] + "..."


def format_value(value: Any, limit: int = 60) -> str:
    """Formats a logged value for a message: as JSON in ASCII, on one line, shortened.

    Args:
      value: A value as JSON decodes it.
      limit: The largest number of characters in the result.
    """
    if isinstance(value, (str, list)):
        # Cut before encoding: a message about megabytes must cost nothing.
        value = value[:limit + 1]
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = ascii(type(value).__name__)
    return shorten(text, limit)
