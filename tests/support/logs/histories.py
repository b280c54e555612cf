"""Builds results trees with many sets of one benchmark: replaced ones, a result, experiments."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Sequence

from compliance.checking.checker import check_file
from tests.support.logs.attempt_chains import sha256, with_attempt_record, write_ledger
from tests.support.logs.log_builder import good_log, set_setting, write_log
from tests.support.logs.run_sets import without_gaps

BENCHMARK = "ncf-ml-100k"
FIRST = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
EPOCHS = (7, 8, 9, 7, 8)


def set_id(number: int) -> str:
    """Returns the identifier of a set; one is made every day."""
    return f"{FIRST + datetime.timedelta(days=number):%Y%m%dT%H%M%SZ}"


def write_set_of_history(folder: Path, name: str, epoch_ms: int, number: int,
                         values: dict[str, Any] | None = None, runs: Sequence[int] = EPOCHS,
                         converged: bool = True) -> list[dict[str, Any]]:
    """Writes the logs of one set; returns its entries of the ledger.

    Args:
      folder: The set's folder.
      name: The set's identifier.
      epoch_ms: Milliseconds of an epoch.
      number: The number of the set, from which its date and seeds follow.
      values: New values for the records of these keys.
      runs: The epochs of each run.
      converged: Whether the runs reach their target.
    """
    launcher = f"{number:016x}"
    entries: list[dict[str, Any]] = [
        {"event": "launcher", "launcher": launcher, "set": name, "runs": len(runs), "joins": None}]
    start_ms = int((FIRST.timestamp() + 86_400 * number) * 1000)
    previous: list[dict[str, Any]] = []
    reason = "target" if converged else "epoch_cap"
    for run, epochs in enumerate(runs):
        seed = 1 + run + 10 * number
        records = without_gaps(good_log(
            epochs=epochs, seed=seed, start_ms=start_ms + 600_000 * run, converged=converged,
            epoch_ms=epoch_ms + 3 * run, max_epochs=None if converged else epochs))
        for key, value in (values or {}).items():
            set_setting(records, key, value)
        with_attempt_record(records, {
            "set": name, "attempt": run + 1, "run": run, "launcher": launcher, "joins": None,
            "previous": previous})
        log = folder / f"result_{run}.txt"
        write_log(log, records)
        facts = check_file(log).summary
        common = {"set": name, "attempt": run + 1, "run": run, "seed": seed,
                  "log": f"run_{run}_{name}_1.txt"}
        entries += [{"event": "start", "launcher": launcher, **common},
                    {"event": "end", **common, "reason": reason, "message": "",
                     "epochs": facts.num_accuracies, "accuracy": facts.last_accuracy[0],
                     "seconds": facts.seconds, "placed": True, "sha256": sha256(log)}]
        previous = [{"attempt": run + 1, "run": run, "launcher": launcher, "reason": reason,
                     "sha256": sha256(log)}]
    return entries


def write_history(system: Path, epoch_ms: Sequence[int], changed: dict[int, dict[str, Any]] | None
                  = None, runs: Sequence[int] = EPOCHS) -> Path:
    """Writes a system with one set for each of `epoch_ms`; the last one is the result.

    Args:
      system: The folder of the system.
      epoch_ms: Milliseconds of an epoch in each set.
      changed: For the number of a set, new values for the records of these keys.
      runs: The epochs of each run of a set.

    Returns:
      The folder of the system.
    """
    attempts = system / "attempts" / BENCHMARK
    entries: list[dict[str, Any]] = []
    for number, milliseconds in enumerate(epoch_ms):
        name, is_last = set_id(number), number + 1 == len(epoch_ms)
        folder = system / BENCHMARK if is_last else attempts / name
        entries += write_set_of_history(folder, name, milliseconds, number,
                                        (changed or {}).get(number), runs)
        if not is_last:
            entries.append({"event": "set_aside", "set": name, "folder": name})
    write_ledger(attempts / "ledger.jsonl", entries)
    return system
