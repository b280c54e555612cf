"""Finds the logs of runs under a folder, in the order of their numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compliance.base.errors import UsageError


def natural_sort_key(path: Path) -> list[Any]:
    """Returns a sort key that compares digits as numbers: result_2 before result_10.

    Each part of the path is split into runs of digits and the text between them.
    Numbers sort before text.
    """
    return [[(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"([0-9]+)", part)]
            for part in path.parts]


def find_logs(folder: Path) -> list[Path]:
    """Lists every result_*.txt under a folder, at any depth, in natural order.

    Args:
      folder: An existing folder.

    Raises:
      UsageError: There is no such file.
    """
    logs = sorted((p for p in folder.rglob("result_*.txt") if not p.is_dir()),
                  key=natural_sort_key)
    if not logs:
        raise UsageError(f"{folder}: no result_*.txt in this folder; give a folder with logs")
    return logs
