"""An event sink that keeps all events, for tests of what is logged."""

from __future__ import annotations

from typing import Any


class RecordingSink:
    """Keeps every event as (key, value, metadata), in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any, dict[str, Any]]] = []

    def point(self, key: str, value: Any = None, **metadata: Any) -> None:
        self.said.append((key, value, metadata))

    start = end = point
