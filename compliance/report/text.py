"""Text that a log or a path chose, made harmless for a terminal."""

from __future__ import annotations

from typing import Any


def plain(text: Any) -> str:
    """One printable line: control characters (a log's own, say) are escaped."""
    text = str(text)
    return text if text.isprintable() else "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in text)
