"""Builds sets with a chain of attempts: the results, the ledger and the attempt logs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Sequence

from compliance.chain.ledger import line_digest
from compliance.checking.checker import check_file
from tests.support.logs.log_builder import Record, good_log, index_of, write_log

SET, LAUNCHER, OTHER = "20260101T000000Z", "a" * 16, "b" * 16


def with_attempt_record(records: list[Record], value: dict[str, Any]) -> list[Record]:
    """Inserts an `attempt` record with this value after the seed; returns the records."""
    where = index_of(records, "seed") + 1
    records.insert(where, {**records[where - 1], "key": "attempt", "value": value,
                           "metadata": {"file": "run.py", "lineno": 10}})
    return records


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_ledger(path: Path, entries: list[dict[str, Any]]) -> None:
    """Writes a ledger of these entries, each with the digest of the previous line."""
    lines, previous = b"", None
    for entry in entries:
        line = json.dumps({"time": "2026-01-01T00:00:00Z", **entry, "previous": previous}).encode()
        previous, lines = line_digest(line), lines + line + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines)


def chained_set(root: Path, ends: Sequence[str] = ("target", "interrupted", "target", "target"),
                launchers: Sequence[str] | None = None, slim: Any = lambda r: r,
                epochs: int = 1) -> Path:
    """Builds a results tree of one set.

    Args:
      root: The folder of the tree.
      ends: The reason why each attempt ended.
      launchers: The launcher of each attempt; None: one for all.
      slim: A function that is applied to the records of each log.
      epochs: The epochs of each log.

    Returns:
      The folder of the set.
    """
    results, attempts = root / "sys" / "ncf-ml-100k", root / "sys" / "attempts" / "ncf-ml-100k"
    launchers = launchers or [LAUNCHER] * len(ends)
    entries: list[dict[str, Any]] = []
    previous: list[dict[str, Any]] = []
    launcher_before, run = None, 0
    # Only a run that ended at the cap has used all epochs.
    cap = epochs if "epoch_cap" in ends else None
    for number, (reason, launcher) in enumerate(zip(ends, launchers), start=1):
        if launcher != launcher_before:
            entries.append({"event": "launcher", "launcher": launcher, "set": SET, "runs": 3,
                            "joins": launcher_before})
        value = {"set": SET, "attempt": number, "run": run, "launcher": launcher,
                 "joins": launcher_before if launcher_before != launcher else None,
                 "previous": list(previous)}
        placed = reason in ("target", "epoch_cap", "nan_loss")
        name = f"run_{run}_{SET}_{number}.txt"
        log = results / f"result_{run}.txt" if placed else attempts / name
        write_log(log, with_attempt_record(slim(good_log(
            epochs=epochs if placed or not cap else epochs - 1, seed=number,
            start_ms=10 ** 12 + 10 ** 7 * number, converged=reason == "target", reason=reason,
            max_epochs=cap)), value))
        digest = sha256(log)
        common = {"set": SET, "attempt": number, "run": run, "log": name, "seed": number}
        entries.append({"event": "start", "launcher": launcher, **common})
        run_facts = check_file(log).summary
        entries.append({"event": "end", **common, "reason": reason, "message": "",
                        "epochs": run_facts.num_accuracies,
                        "accuracy": run_facts.last_accuracy and run_facts.last_accuracy[0],
                        "seconds": run_facts.seconds,
                        "placed": placed, "sha256": digest})
        launcher_before = launcher
        if placed:
            previous, run = [], run + 1
        previous.append({"attempt": number, "run": value["run"], "launcher": launcher,
                         "reason": reason, "sha256": digest})
    write_ledger(attempts / "ledger.jsonl", entries)
    return results


def edit(path: Path, old: str, new: str) -> None:
    """Replaces the first occurrence of a text, which must exist."""
    text = path.read_text(encoding="utf-8")
    assert old in text, old
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def attempt_line(path: Path) -> int:
    """Returns the line number of a log's `attempt` record."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, start=1) if '"key": "attempt"' in line)
