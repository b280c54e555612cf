"""Finds the logs of runs under a folder, in the order of their numbers.

In a results tree, `attempts/` (sets that were set aside or not finished) and `experiments/`
are skipped, unless the given folder is inside them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compliance.base.errors import UsageError


# Folders of a results tree whose sets are not results.
LEFT_OUT_FOLDERS = frozenset(("attempts", "experiments"))


def natural_sort_key(path: Path) -> list[Any]:
    """Returns a sort key that compares digits as numbers: result_2 before result_10.

    Each part of the path is split into digit sequences and the text between them.
    Numbers sort before text.
    """
    return [[(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"([0-9]+)", part)]
            for part in path.parts]


def find_logs(folder: Path) -> list[Path]:
    """Lists every result_*.txt under a folder, at any depth, in natural order.

    Folders below the given one whose name is in LEFT_OUT_FOLDERS are skipped.

    Args:
      folder: An existing folder.

    Raises:
      UsageError: No such file was found.
    """
    found = [p for p in folder.rglob("result_*.txt") if not p.is_dir()]
    left_out = {p: LEFT_OUT_FOLDERS.intersection(p.relative_to(folder).parts) for p in found}
    logs = sorted((p for p in found if not left_out[p]), key=natural_sort_key)
    if not logs and found:
        names = " and ".join(sorted(set().union(*left_out.values())))
        raise UsageError(f"{folder}: no result_*.txt in this folder outside {names}; to read those "
                         "logs, give the folder of a set")
    if not logs:
        raise UsageError(f"{folder}: no result_*.txt in this folder; give a folder with logs")
    return logs


def unread_neighbours(logs: list[Path]) -> list[Path]:
    """Lists text files in the folders of the logs that do not have the name of a log.

    The report.txt that the harness writes beside the logs of an experiment is left out.

    Args:
      logs: The answer of `find_logs`.
    """
    folders = sorted({log.parent for log in logs})
    return [path for folder in folders
            for path in sorted(folder.iterdir(), key=natural_sort_key)
            if path.suffix in (".txt", ".log") and path.is_file()
            and not path.match("result_*.txt") and path.name != "report.txt"]
