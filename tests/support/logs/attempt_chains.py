"""Sets whose logs carry a chain of attempts, with the ledger and the attempts beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Sequence

from compliance.chain.ledger import line_digest
from tests.support.logs.log_builder import Record, at, good_log, write_log

SET, LAUNCHER, OTHER = "20260101T000000Z", "a" * 16, "b" * 16


def linked(records: list[Record], link: dict[str, Any]) -> list[Record]:
    """The log with its `attempt` record, after the seed."""
    where = at(records, "seed") + 1
    records.insert(where, {**records[where - 1], "key": "attempt", "value": link,
                           "metadata": {"file": "run.py", "lineno": 10}})
    return records


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_ledger(path: Path, entries: list[dict[str, Any]]) -> None:
    """The entries, chained."""
    lines, previous = b"", None
    for entry in entries:
        line = json.dumps({"time": "2026-01-01T00:00:00Z", **entry, "previous": previous}).encode()
        previous, lines = line_digest(line), lines + line + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines)


def chained_set(root: Path, ends: Sequence[str] = ("target", "interrupted", "target", "target"),
                launchers: Sequence[str] | None = None, slim: Any = lambda r: r,
                epochs: int = 1) -> Path:
    """A results tree of one set, an attempt for each of `ends`; returns the set's folder."""
    results, attempts = root / "sys" / "ncf-ml-100k", root / "sys" / "attempts" / "ncf-ml-100k"
    launchers = launchers or [LAUNCHER] * len(ends)
    entries: list[dict[str, Any]] = []
    previous: list[dict[str, Any]] = []
    before, run = None, 0
    for number, (reason, launcher) in enumerate(zip(ends, launchers), start=1):
        if launcher != before:
            entries.append({"event": "launcher", "launcher": launcher, "set": SET, "runs": 3,
                            "joins": before})
        link = {"set": SET, "attempt": number, "run": run, "launcher": launcher,
                "joins": before if before != launcher else None, "previous": list(previous)}
        placed = reason in ("target", "epoch_cap", "nan_loss")
        name = f"run_{run}_{SET}_{number}.txt"
        log = results / f"result_{run}.txt" if placed else attempts / name
        write_log(log, linked(slim(good_log(
            epochs=epochs, seed=number, start_ms=10 ** 12 + 10 ** 7 * number,
            converged=reason == "target", reason=reason)), link))
        digest = sha256(log)
        common = {"set": SET, "attempt": number, "run": run, "log": name, "seed": number}
        entries.append({"event": "start", "launcher": launcher, **common})
        entries.append({"event": "end", **common, "reason": reason, "message": "", "epochs": 1,
                        "accuracy": 0.1, "seconds": 1.0, "placed": placed, "sha256": digest})
        before = launcher
        if placed:
            previous, run = [], run + 1
        previous.append({"attempt": number, "run": link["run"], "launcher": launcher,
                         "reason": reason, "sha256": digest})
    write_ledger(attempts / "ledger.jsonl", entries)
    return results


def edit(path: Path, old: str, new: str) -> None:
    """Replaces a text that must be there, once."""
    text = path.read_text(encoding="utf-8")
    assert old in text, old
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def attempt_line(path: Path) -> int:
    """The line of the log's `attempt` record."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, start=1) if '"key": "attempt"' in line)
