"""The verdict on a set of runs: its logs are checked and scored by `compliance`.

PASS: every log passes and there is a score. A set that cannot have a score for
want of runs or of a target is valid but unscored. Everything else is FAIL.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.checking import checker
from compliance.results import scoring
from harness.base.console import RunRow, run_table
from harness.base.machine import write_json, write_text
from harness.config.run_config import RunConfig
from harness.processes.trial_process import TrialEnd
from harness.results.result_tree import ResultTree, SetState

SUMMARY_VERSION = 1
_MOST_VIOLATIONS_SHOWN = 10


@dataclass(frozen=True)
class Judgement:
    """What came of a set. `check` and `score` are the objects of
    `python -m compliance check|score --format json`; `score` is None where the
    set holds no log."""

    verdict: str
    failed: bool
    rows: list[RunRow] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    check: dict[str, Any] | None = None
    score: dict[str, Any] | None = None

    @property
    def table(self) -> str:
        return run_table(self.rows)


def judge(
    config: RunConfig, tree: ResultTree, num_runs: int, end: TrialEnd | None
) -> Judgement:
    """Checks and scores the results folder. `end`: the trial that ended the set early."""
    if not tree.finished_runs():
        return Judgement(_died(end, 0, num_runs), failed=True)
    check = check_folder(tree.results, config.log_format)
    score = score_folder(tree.results)
    rows = [_row(entry) for entry in check["files"]]
    lines = [*_violations(check), *_score_lines(score)]
    verdict, failed = _verdict(config, check, score, num_runs, end)
    return Judgement(verdict, failed, rows, lines, check, score)


def check_folder(folder: Path, log_format: str) -> dict[str, Any]:
    """The object of `compliance check FOLDER --format json`; v0.5 at level 2."""
    ruleset = "ncf-v0.5-l2" if log_format == "v0.5" else "auto"
    return checker.check_paths([folder], ruleset).as_json()


def score_folder(folder: Path) -> dict[str, Any]:
    """The object of `compliance score FOLDER --format json`."""
    return scoring.score_folder(folder).as_json()


def _verdict(
    config: RunConfig, check: dict, score: dict, num_runs: int, end: TrialEnd | None
) -> tuple[str, bool]:
    """(the verdict in words, whether it is FAIL)."""
    runs, required = len(check["files"]), config.required_runs
    if end is not None:
        return _died(end, runs, num_runs), True
    bad = sum(entry["verdict"] != "pass" for entry in check["files"])
    if bad:
        return f"FAIL: {bad} of {runs} logs break the rules", True
    if config.synthetic_batches:
        return "valid, unscored: the batches were made up", False
    if config.target is None:
        return f"valid, unscored: track {config.track_name} has no target", False
    converged = sum(bool(entry["run"]["converged"]) for entry in check["files"])
    if runs < required:
        if converged < runs:
            return f"FAIL: {runs - converged} of {runs} runs did not reach the target", True
        return f"PASS: valid, unscored: {runs} of {required} runs", False
    if runs > required:
        return f"valid, unscored: {runs} runs, but the rule takes {required}", False
    if config.profile_dir:
        return "valid, unscored: the runs were profiled", False
    if score["seconds"] is not None:
        return f"PASS: {score['seconds']:.3f} s, {converged} of {runs} runs converged", False
    if converged < runs:
        return f"FAIL: {runs - converged} of {runs} runs did not reach the target", True
    return f"PASS: {converged} of {runs} runs converged; no score: {score['reason']}", False


def _died(end: TrialEnd | None, runs: int, num_runs: int) -> str:
    reason = end.reason if end else "no run"
    return f"FAIL: {reason}; {runs} of {num_runs} runs are complete, go on with --resume"


def _row(entry: dict[str, Any]) -> RunRow:
    run = entry["run"]
    stem = Path(entry["path"]).stem
    outcome = {True: "converged", False: "not converged", None: "unscored"}[run["converged"]]
    if entry["verdict"] != "pass":
        outcome += f", check: {entry['verdict']}"
    return RunRow(
        run=int(stem.rpartition("_")[2]),
        seed=run["seed"],
        epochs=run["epochs"],
        accuracy=run["final_accuracy"],
        seconds=run["seconds"],
        outcome=outcome,
    )


def _violations(check: dict[str, Any]) -> list[str]:
    """The first violations of each file, one a line."""
    lines = []
    for entry in check["files"]:
        for violation in entry["violations"]:
            line = "" if violation["line"] is None else f":{violation['line']}"
            name = Path(entry["path"]).name
            lines.append(f"{name}{line}: {violation['rule']}: {violation['message']}")
    more = len(lines) - _MOST_VIOLATIONS_SHOWN
    return lines if more <= 0 else [*lines[:_MOST_VIOLATIONS_SHOWN], f"... and {more} more"]


def _score_lines(score: dict[str, Any]) -> list[str]:
    if score["seconds"] is None:
        return []
    interval = score["ci95_s"]
    text = (
        f"95% interval {interval[0]:.3f} to {interval[1]:.3f} s"
        if interval
        else "no interval below 10 runs"
    )
    return [
        f"score {score['seconds']:.3f} s ({score['rule']}, mean of {score['counted']} runs; {text})"
    ]


def _under(root: Path, answer: dict[str, Any] | None, entries: str) -> dict[str, Any] | None:
    """The answer with the paths of its entries relative to `root`, with slashes."""
    if answer is None:
        return None
    return {**answer, entries: [
        {**entry, "path": Path(os.path.relpath(entry["path"], root)).as_posix()}
        for entry in answer[entries]]}  # fmt: skip


def write_report(config: RunConfig, tree: ResultTree, state: SetState, result: Judgement) -> Path:
    """Writes reports/<benchmark>.json and .txt; returns the latter's path.

    Paths in them are those under the system's folder, wherever that lies.
    """
    summary = {
        "schema_version": SUMMARY_VERSION,
        "track": config.track_name,
        "benchmark": config.benchmark,
        "division": config.division,
        "system": config.system,
        "set": state.set_id,
        "verdict": result.verdict,
        "passed": not result.failed,
        "required_runs": config.required_runs,
        "num_runs": state.num_runs,
        "settings": config.set_settings(),
        "score": _under(tree.root, result.score, "per_run"),
        "check": _under(tree.root, result.check, "files"),
    }
    write_json(tree.reports / f"{config.benchmark}.json", summary)
    text = "\n".join(
        [
            f"track {config.track_name}, {config.division} division, system {config.system}",
            "",
            *([result.table, ""] if result.rows else []),
            *result.lines,
            result.verdict,
        ]
    )
    path = tree.reports / f"{config.benchmark}.txt"
    write_text(path, text + "\n")
    return path
