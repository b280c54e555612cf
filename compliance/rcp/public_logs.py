"""Reference points of ml-20m out of the public logs of MLPerf Training v0.5.

    python -m compliance.rcp.public_logs LOGS [--output FILE]

LOGS holds `nvidia_dgx1/` and `intel_skx8180/`, the two NCF submissions of
mlcommons/training_results_v0.5 (Apache-2.0) that consist of 100 logs each.  Only
figures are kept: for each run the epochs to HR@10 0.635, or null where it did not
get there.  Intel's records do not say the batch size; the line of plain text that
the program printed first does.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import write_text
from compliance.logs.find_logs import natural_key
from compliance.logs.timeline import Timeline, read_timeline
from compliance.rcp.calibration import POINTS_DIR

SCHEMA_VERSION = 1
KIND = "epochs_of_logs"
TRACK, TARGET = "ml-20m", 0.635
FILE = POINTS_DIR / "ml-20m-v0.5.json"
ENTRIES = ("nvidia_dgx1", "intel_skx8180")
SOURCE = "https://github.com/mlcommons/training_results_v0.5 (Apache-2.0), NCF, closed division"
_SETTINGS = {"opt_base_learning_rate": "learning_rate", "opt_adam_beta_1": "beta1",
             "opt_adam_beta_2": "beta2", "opt_adam_epsilon": "epsilon"}
_PRINTED = {"batch size": "batch_size", "learning rate": "learning_rate", "beta1": "beta1",
            "beta2": "beta2", "eps": "epsilon"}


def derive(logs: Path) -> dict[str, Any]:
    """The figures of both submissions.  Raises UsageError."""
    return {"schema_version": SCHEMA_VERSION, "kind": KIND, "track": TRACK, "target": TARGET,
            "source": SOURCE,
            "command": f"python -m compliance.rcp.public_logs LOGS --output {FILE.name}",
            "points": [_point(logs / name) for name in ENTRIES]}


def _point(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.glob("result_*.txt"), key=natural_key)
    if not paths:
        raise UsageError(f"{folder}: no result_*.txt; give the folder that holds "
                         f"{' and '.join(ENTRIES)}")
    lines = [read_timeline(path) for path in paths]
    settings = [{**_logged(line), **_printed(Path(line.path))} for line in lines]
    if any(s != settings[0] for s in settings) or "batch_size" not in settings[0]:
        raise UsageError(f"{folder}: the logs do not all say the same batch size and settings")
    epochs = [line.epochs_to(TARGET) for line in lines]
    missed = {len(line.hit_rates) for line, found in zip(lines, epochs) if found is None}
    if len(missed) > 1:
        raise UsageError(f"{folder}: runs that missed the target ended after {sorted(missed)}")
    batch_size = settings[0].pop("batch_size")
    return {"entry": folder.name, "batch_size": batch_size,
            "settings": {"optimizer": "adam", **settings[0]},
            "epochs_trained": max([*missed, *(e for e in epochs if e is not None)]),
            "epochs": epochs}


def _logged(line: Timeline) -> dict[str, Any]:
    found = {name: line.settings[key] for key, name in _SETTINGS.items() if key in line.settings}
    return {**found, "batch_size": line.batch_size} if line.batch_size else found


def _printed(path: Path) -> dict[str, Any]:
    """Settings in the plain text before the records, as `name=value`."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        text = stream.read(1 << 16).partition(":::MLP")[0]
    found = re.findall(rf"({'|'.join(_PRINTED)})=([0-9.eE+-]+)", text)
    return {_PRINTED[name]: json.loads(value) for name, value in found}


def as_text(data: dict[str, Any]) -> str:
    """The file: readable, one line a list."""
    text = json.dumps({**data, "points": []}, indent=2)
    points = []
    for point in data["points"]:
        rows = [f'      "{key}": {json.dumps(value)}' for key, value in point.items()]
        points.append("    {\n" + ",\n".join(rows) + "\n    }")
    return text.replace('"points": []', '"points": [\n' + ",\n".join(points) + "\n  ]") + "\n"


def main(argv: list[str] | None = None) -> int:
    """0, or 1 with one line."""
    parser = argparse.ArgumentParser(prog="python -m compliance.rcp.public_logs")
    parser.add_argument("logs", type=Path, metavar="LOGS")
    parser.add_argument("--output", type=Path, help="default: print")
    args = parser.parse_args(argv)
    try:
        text = as_text(derive(args.logs))
        if args.output is None:
            print(text, end="")
        else:
            write_text(args.output, text)
    except (OSError, ValueError) as error:
        print(f"reference_logs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
