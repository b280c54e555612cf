"""Writes text and JSON files atomically: a reader sees either the old or the new content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compliance.base import untrusted_files


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, indented by two spaces, with the keys in their given order.

    Args:
      path: Path of the file; missing folders are created.
      value: JSON values.

    Raises:
      ValueError: `value` contains NaN or an infinity.
      OSError: The file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file; creates missing folders. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    untrusted_files.write_text(path, text)
