"""The results of the pack: results.json and results.md, rewritten after each measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reference_model.base.atomic_files import atomic_write


class Record:
    """The figures so far.

    Attributes:
      data: {"environment", "measurements": [{"case", "measure", figures or "skipped" or
        "error"}]}.
    """

    def __init__(self, folder: Path, environment: dict[str, Any]):
        """Writes the first, empty files."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.data: dict[str, Any] = {"environment": environment, "measurements": []}
        self._write()

    def add(self, case: str, measure: str, figures: dict[str, Any]) -> None:
        """Adds figures, or the reason why there are none, and rewrites the files."""
        self.data["measurements"].append({"case": case, "measure": measure, **figures})
        self._write()

    def finish(self) -> None:
        """Records that the run has ended."""
        self.data["is_complete"] = True
        self._write()

    def _write(self) -> None:
        for name, text in (
            ("results.json", json.dumps(self.data, indent=1)), ("results.md", markdown(self.data))
        ):  # fmt: skip
            with atomic_write(self._folder / name) as stream:
                stream.write((text + "\n").encode())


def markdown(data: dict[str, Any]) -> str:
    """Makes the tables of the results."""
    lines = ["# NeuMF on this device", ""]
    lines += [f"- {name}: {value}" for name, value in data["environment"].items()]
    if not data.get("is_complete"):
        lines.append("- incomplete: the run has not ended, or was interrupted")
    for measure, (title, columns) in _TABLES.items():
        found = [x for x in data["measurements"]
                 if x["measure"] == measure and "skipped" not in x and "error" not in x]
        if found:
            lines += ["", f"## {title}", "", *_table(found, columns)]
    for entry in data["measurements"]:
        if entry["measure"] == "profile" and "kernels" in entry:
            lines += ["", f"## One step of {entry['case']}, {entry['total_ms']:.3f} ms", ""]
            lines += ["| kernel | ms | runs |", "| --- | ---: | ---: |"]
            lines += [f"| `{k['name']}` | {k['ms']:.3f} | {k['runs']} |" for k in entry["kernels"]]
    if any(x["measure"] == "evaluation" for x in data["measurements"]):
        lines += ["", "An evaluation stops scoring a user as soon as the rank among the best 10 is "
                  "decided, so it computes fewer scores than its lists have pairs."]
    missing = [x for x in data["measurements"] if "skipped" in x or "error" in x]
    if missing:
        lines += ["", "## Not measured", ""]
        lines += [f"- {x['case']}, {x['measure']}: {x.get('skipped') or x['error']}"
                  for x in missing]
    return "\n".join(lines)


def _number(value: Any, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:,.{digits}f}"


# measure: (title, ((column, field, unit, digits), ...))
_TABLES = {
    "check": ("Correctness against a CPU", (
        ("steps", "steps", 1, 0),
        ("largest relative difference of a loss, 1e-6", "loss_difference", 1e-6, 2),
        ("allowed, 1e-6", "allowed_loss_difference", 1e-6, 0),
        ("hits", "hits", 1, 0), ("hits on the CPU", "expected_hits", 1, 0),
        ("allowed difference", "allowed_hits", 1, 0),
        ("within the tolerance", "is_within_tolerance", None, 0),
    )),
    "training": ("Training", (
        ("M examples/s", "examples_per_s", 1e6, 2), ("ms a step", "step_ms", 1, 3),
    )),
    "evaluation": ("Evaluation", (
        ("M pairs of the lists/s", "pairs_per_s", 1e6, 1),
        ("M scores computed/s", "computed_pairs_per_s", 1e6, 1),
        ("s", "seconds", 1, 3),
    )),
    "epoch": ("An epoch", (
        ("training, s", "epoch_seconds", 1, 3), ("evaluation, s", "evaluation_seconds", 1, 3),
        ("making an order, s", "order_seconds", 1, 3),
    )),
    "target": ("To the target", (
        ("reached", "reached", None, 0), ("epochs", "epochs", 1, 0), ("s", "seconds", 1, 3),
        ("target", "target", 1, 3),
    )),
    "memory": ("Memory", (
        ("peak, GB", "peak_bytes", 1e9, 2), ("limit, GB", "limit_bytes", 1e9, 1),
    )),
}  # fmt: skip


def _table(found: list[dict[str, Any]], columns) -> list[str]:
    lines = ["| case | " + " | ".join(title for title, *_ in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for entry in found:
        cells = []
        for _, field, unit, digits in columns:
            value = entry.get(field)
            cells.append(str(value).lower() if unit is None else _number(value, unit, digits))
        lines.append(f"| {entry['case']} | " + " | ".join(cells) + " |")
    return lines
