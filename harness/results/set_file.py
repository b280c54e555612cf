"""set.json: identifier and settings of the set to which a folder of attempts belongs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import read_bounded
from harness.base.output_files import write_json
from harness.config.run_config import RunConfig

SET_FILE = "set.json"
# Describes the set whose results are in results/<system>/<benchmark>.
FINISHED_FILE = "finished_set.json"
MAX_SET_BYTES = 1 << 20
# Earlier versions wrote no layout; they created a set in the folder that is now for results.
LAYOUT = 2


@dataclass(frozen=True)
class SetFile:
    """The content of a set.json.

    Attributes:
      set_id: The set's identifier, its start time in UTC.
      num_runs: Number of runs of the complete set.
      settings: Settings shared by all of its runs.
      layout: LAYOUT, or 1 if an earlier version created the set.
    """

    set_id: str
    num_runs: int
    settings: dict[str, Any]
    layout: int = LAYOUT

    @property
    def log_format(self) -> str:
        """The value of `--log_format` for its runs."""
        return str(self.settings.get("log_format", "mllog"))

    def differing_setting(self, config: RunConfig) -> tuple[str, Any, Any] | None:
        """Returns the first different setting: (name, value here, value in `config`), or None."""
        # A JSON round trip, as for the settings in the file: tuples become lists.
        wanted = json.loads(json.dumps(config.shared_settings()))
        for key in sorted({*wanted, *self.settings}):
            if wanted.get(key) != self.settings.get(key):
                return key, self.settings.get(key), wanted.get(key)
        return None


def read_set_file(path: Path) -> SetFile | None:
    """Returns the content of a set.json; None if it is missing or damaged."""
    try:
        value = json.loads(read_bounded(path, MAX_SET_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    types = {"set": str, "num_runs": int, "settings": dict}
    is_valid = isinstance(value, dict) and all(
        type(value.get(key)) is expected for key, expected in types.items()
    )
    # The set's identifier is part of file names, so it must contain word characters only.
    if not is_valid or not re.fullmatch(r"\w+", value["set"]):
        return None
    layout = LAYOUT if value.get("layout") == LAYOUT else 1
    return SetFile(value["set"], value["num_runs"], value["settings"], layout)


def write_set_file(path: Path, set_id: str, config: RunConfig, num_runs: int) -> None:
    """Writes a set.json; creates missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {
        "layout": LAYOUT, "set": set_id, "num_runs": num_runs,
        "settings": config.shared_settings(),
    })  # fmt: skip
