"""Text and JSON files that are replaced as a whole: a reader sees the old or the new content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compliance.base import untrusted_files


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, indented by two, keys in their order.

    Args:
      path: Where to; missing folders are made.
      value: JSON values.

    Raises:
      ValueError: `value` contains NaN or an infinity.
      OSError: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file; makes missing folders. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    untrusted_files.write_text(path, text)
