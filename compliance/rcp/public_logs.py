"""Extracts the reference points of ml-20m from the public logs of MLPerf Training v0.5.

    python -m compliance.rcp.public_logs LOGS [--output FILE]

LOGS contains `nvidia_dgx1/` and `intel_skx8180/`, the two NCF submissions of
mlcommons/training_results_v0.5 (Apache-2.0) that consist of 100 logs each. Only each run's
epochs to HR@10 0.635 are kept, or null if the run did not reach it. Intel's records do not
contain the batch size; it is read from the plain text that the program printed before them.
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
from compliance.logs.find_logs import natural_sort_key
from compliance.logs.timeline import Timeline, read_timeline
from compliance.rcp.calibration import REFERENCE_POINTS_DIR

SCHEMA_VERSION = 1
KIND = "epochs_of_logs"
TRACK, TARGET = "ml-20m", 0.635
OUTPUT_FILE = REFERENCE_POINTS_DIR / "ml-20m-v0.5.json"
SUBMISSIONS = ("nvidia_dgx1", "intel_skx8180")
SOURCE = "https://github.com/mlcommons/training_results_v0.5 (Apache-2.0), NCF, closed division"
# Names in the log -> names in the file of reference points.
_LOGGED_SETTINGS = {"opt_base_learning_rate": "learning_rate", "opt_adam_beta_1": "beta1",
                    "opt_adam_beta_2": "beta2", "opt_adam_epsilon": "epsilon"}
_PRINTED_SETTINGS = {"batch size": "batch_size", "learning rate": "learning_rate",
                     "beta1": "beta1", "beta2": "beta2", "eps": "epsilon"}
_MAX_HEAD_CHARS = 1 << 16  # characters of a log that are searched for printed settings


def read_public_logs(folder: Path) -> dict[str, Any]:
    """Reads the reference points of both submissions.

    Args:
      folder: The folder that contains the folders of SUBMISSIONS.

    Returns:
      The content of the file of reference points.

    Raises:
      UsageError: Logs are missing, or the logs of one submission differ in their settings.
    """
    return {"schema_version": SCHEMA_VERSION, "kind": KIND, "track": TRACK, "target": TARGET,
            "source": SOURCE,
            "command": f"python -m compliance.rcp.public_logs LOGS --output {OUTPUT_FILE.name}",
            "points": [_read_submission(folder / name) for name in SUBMISSIONS]}


def _read_submission(folder: Path) -> dict[str, Any]:
    """Reads the reference point of one submission."""
    paths = sorted(folder.glob("result_*.txt"), key=natural_sort_key)
    if not paths:
        raise UsageError(f"{folder}: no result_*.txt; give the folder that contains "
                         f"{' and '.join(SUBMISSIONS)}")
    timelines = [read_timeline(path) for path in paths]
    settings = [{**_logged_settings(t), **_printed_settings(Path(t.path))} for t in timelines]
    if any(s != settings[0] for s in settings) or "batch_size" not in settings[0]:
        raise UsageError(f"{folder}: the logs do not all have the same batch size and settings")
    epochs = [t.epochs_to(TARGET) for t in timelines]
    # All runs that missed the target must have been censored after the same epoch.
    caps = {len(t.hit_rates) for t, found in zip(timelines, epochs) if found is None}
    if len(caps) > 1:
        raise UsageError(f"{folder}: runs that missed the target ended after different numbers "
                         f"of epochs: {sorted(caps)}")
    batch_size = settings[0].pop("batch_size")
    return {"entry": folder.name, "batch_size": batch_size,
            "settings": {"optimizer": "adam", **settings[0]},
            "epochs_trained": max([*caps, *(e for e in epochs if e is not None)]),
            "epochs": epochs}


def _logged_settings(timeline: Timeline) -> dict[str, Any]:
    """Returns the settings in the records."""
    found = {name: timeline.settings[key] for key, name in _LOGGED_SETTINGS.items()
             if key in timeline.settings}
    return {**found, "batch_size": timeline.batch_size} if timeline.batch_size else found


def _printed_settings(path: Path) -> dict[str, Any]:
    """Returns the settings in the plain text before the records, written as `name=value`."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        text = stream.read(_MAX_HEAD_CHARS).partition(":::MLP")[0]
    found = re.findall(rf"({'|'.join(_PRINTED_SETTINGS)})=([0-9.eE+-]+)", text)
    return {_PRINTED_SETTINGS[name]: json.loads(value) for name, value in found}


def format_points(data: dict[str, Any]) -> str:
    """Returns the file's text: indented JSON with each list of epochs on one line."""
    text = json.dumps({**data, "points": []}, indent=2)
    points = []
    for point in data["points"]:
        rows = [f'      "{key}": {json.dumps(value)}' for key, value in point.items()]
        points.append("    {\n" + ",\n".join(rows) + "\n    }")
    return text.replace('"points": []', '"points": [\n' + ",\n".join(points) + "\n  ]") + "\n"


def main(argv: list[str] | None = None) -> int:
    """Prints or writes the reference points; returns 0, or 1 after one line on an error."""
    parser = argparse.ArgumentParser(prog="python -m compliance.rcp.public_logs")
    parser.add_argument("logs", type=Path, metavar="LOGS")
    parser.add_argument("--output", type=Path, help="file to write (default: print)")
    args = parser.parse_args(argv)
    try:
        text = format_points(read_public_logs(args.logs))
        if args.output is None:
            print(text, end="")
        else:
            write_text(args.output, text)
    except (OSError, ValueError) as error:
        print(f"public_logs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
