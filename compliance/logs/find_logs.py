"""TODO."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compliance.base.errors import UsageError


def natural_key(path: Path) -> list[Any]:
    """Sorts result_2 before result_10."""
    return [[(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"([0-9]+)", part)]
            for part in path.parts]


def find_logs(folder: Path) -> list[Path]:
    """Every result_*.txt under the folder, in natural order.  Raises UsageError."""
    logs = sorted((p for p in folder.rglob("result_*.txt") if not p.is_dir()), key=natural_key)
    if not logs:
        raise UsageError(f"{folder}: no result_*.txt in this folder; give a folder with logs")
    return logs
