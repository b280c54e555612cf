"""Builds sets of logs for tests, each run with its own epochs, times and end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

from compliance.submission.tree_check import SYSTEM_FIELDS
from tests.support.logs.log_builder import (
    Record,
    good_log,
    index_of,
    set_setting,
    write_log,
)


def _time_stats_anew(records: list[Record]) -> None:
    """Recomputes the seconds and rates of each epoch from the times of the records."""
    times: dict[str, int] = {}
    jitter = 1e-6 * records[index_of(records, "seed")]["value"]
    samples = {r["key"]: r["value"] for r in records if r["key"].endswith("_samples")}
    for record in records:
        times[record["key"]] = record["time_ms"]
        if record["key"] == "tracked_stats":
            train_s = (times["epoch_stop"] - times["epoch_start"]) / 1000 + jitter
            eval_s = (times["eval_stop"] - times["epoch_stop"]) / 1000 + jitter
            record["value"].update(
                train_seconds=train_s, throughput=samples["train_samples"] / train_s,
                eval_seconds=eval_s, eval_throughput=samples["eval_samples"] / eval_s)


def without_gaps(records: list[Record]) -> list[Record]:
    """Moves the records of a run to 1 ms apart instead of 7 ms, so that its stages add up."""
    times = [r["time_ms"] for r in records]
    now = times[0]
    for i, record in enumerate(records):
        delta = times[i] - times[i - 1] if i else 0
        now += 1 if delta == 7 else delta
        record["time_ms"] = now
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] = now
    _time_stats_anew(records)
    return records


def write_set(folder: Path, epochs: Sequence[int], missed: Sequence[int] = (),
              values: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Writes one log for each of `epochs`.

    Args:
      folder: The set's folder.
      epochs: The number of epochs of each run.
      missed: Indices of the runs that do not converge.
      values: New values for the records of these keys.
      **settings: Further arguments of `good_log`.

    Returns:
      The folder.
    """
    # A run that misses the target uses all epochs up to the cap, which all runs share.
    cap = max(epochs) if missed else None
    for i, count in enumerate(epochs):
        records = without_gaps(good_log(**{
            "epochs": cap if i in missed else count, "seed": i + 1, "start_ms": 10**12 + i * 10**7,
            "converged": i not in missed, "max_epochs": cap, **settings}))
        for key, value in (values or {}).items():
            set_setting(records, key, value)
        write_log(folder / f"result_{i}.txt", records)
    return folder


def write_results(root: Path, epochs: Sequence[int] = (7, 8, 9, 7, 8), system: str = "laptop",
                  **settings: Any) -> Path:
    """Writes a results tree with one set and a system.json; returns `root`."""
    write_set(root / system / "ncf-ml-100k", epochs, **settings)
    description = {**dict.fromkeys(SYSTEM_FIELDS, "N/A"), "division": "closed"}
    (root / system / "system.json").write_text(json.dumps(description))
    return root
