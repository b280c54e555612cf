"""Finds the folders of sets in a results tree.

    <system>/<benchmark>/                       the result: the last complete, scored set
    <system>/attempts/<benchmark>/<name>/       a set that was replaced, set aside or is under way
    <system>/experiments/<benchmark>/<name>/    an experiment
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from compliance.base.errors import UsageError
from compliance.logs.find_logs import natural_sort_key
from compliance.results.run_set import require_folder

RESULT, ASIDE, UNDER_WAY, EXPERIMENT = "result", "set aside", "under way", "experiment"
_LOG_NAME = re.compile(r"result_\d+\.txt")
_CURRENT = "current"  # the folder of the set under way


@dataclass(frozen=True)
class SetPlace:
    """The folder of one set.

    Attributes:
      folder: The folder.
      kind: RESULT, ASIDE, UNDER_WAY or EXPERIMENT, by the layout of the tree.
      system: The folder of the system.
      benchmark: The name of the benchmark's folder.
      logs: The set's logs, in natural order.
    """

    folder: Path
    kind: str
    system: Path
    benchmark: str
    logs: tuple[Path, ...] = ()


def find_set_folders(folder: str | Path) -> list[SetPlace]:
    """Finds all sets of the benchmarks under a folder.

    Args:
      folder: Of results, a system, a benchmark, or one set. The folder of a set, or one below
        attempts/ or experiments/, means all sets of its benchmark.

    Raises:
      UsageError: There is no such folder, or no log in it.
    """
    given = require_folder(folder)
    base, benchmark = _base_of(Path(os.path.abspath(given)))
    found = []
    for root, folders, files in os.walk(base):
        folders.sort()
        logs = [name for name in files if _LOG_NAME.fullmatch(name)]
        # The folder of a set whose logs are gone is shown by the ledger.
        if logs:
            place = _place_of(Path(root))
            if benchmark is None or place.benchmark == benchmark:
                paths = sorted((place.folder / name for name in logs), key=natural_sort_key)
                found.append(SetPlace(place.folder, place.kind, place.system, place.benchmark,
                                      tuple(paths)))
    if not found:
        raise UsageError(f"{given}: no result_*.txt in this folder; give results/<system>, or the "
                         "folder of a set")
    return found


def _base_of(folder: Path) -> tuple[Path, str | None]:
    """Returns (the folder to search, the only benchmark that counts or None)."""
    parts = folder.parts
    for name in ("attempts", "experiments"):
        if name in parts[1:]:
            at = len(parts) - 1 - parts[::-1].index(name)
            return Path(*parts[:at]), parts[at + 1] if at + 1 < len(parts) else None
    if any(_LOG_NAME.fullmatch(path.name) for path in folder.iterdir()):
        return folder.parent, folder.name
    return folder, None


def _place_of(folder: Path) -> SetPlace:
    """Returns the place of a set's folder, by the names of the folders above it."""
    parent, above = folder.parent, folder.parent.parent
    if above.name == "experiments":
        return SetPlace(folder, EXPERIMENT, above.parent, parent.name)
    if above.name == "attempts":
        kind = UNDER_WAY if folder.name == _CURRENT else ASIDE
        return SetPlace(folder, kind, above.parent, parent.name)
    return SetPlace(folder, RESULT, parent, folder.name)
