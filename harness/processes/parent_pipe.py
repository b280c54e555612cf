"""What a child process tells its parent: JSON lines on a pipe."""

from __future__ import annotations

import json
import os
from typing import Any

_MESSAGE_LENGTH = 300


class Parent:
    """Messages to the parent process; a parent that is gone is not missed."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)

    def tell(self, kind: str, **values: Any) -> None:
        line = json.dumps({"type": kind, **values}) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            pass


def one_line(error: BaseException) -> str:
    """An exception as one line of bounded length."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _MESSAGE_LENGTH else text[: _MESSAGE_LENGTH - 3] + "..."
