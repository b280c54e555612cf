"""The verdict on a set of runs, from the checks and the score of `compliance`.

`compliance.results.set_verdict` decides; a set that ended early is FAIL.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.checking import checker
from compliance.checking.results import COMPLIANCE_WORDS, NOISE_RULES, CheckResult
from compliance.results import scoring
from compliance.results.set_verdict import judge_set
from harness.base.console import RunRow, format_run_table
from harness.base.output_files import write_json, write_text
from harness.config.run_config import RunConfig
from harness.processes.trial_process import TrialEnd
from harness.results.experiments import Experiment
from harness.results.result_tree import ResultTree
from harness.results.set_folder import SetState

SUMMARY_VERSION = 1
_MAX_VIOLATIONS_SHOWN = 10


@dataclass(frozen=True)
class SetVerdict:
    """The verdict on a set of runs and what it is based on.

    Attributes:
      verdict: The text of the verdict in the last line of the output.
      failed: Whether the verdict is FAIL.
      rows: One row of the table per log.
      lines: Violations and score, as shown below the table.
      check: The object of `python -m compliance check --format json`; None if the set
        contains no logs.
      score: The object of `python -m compliance score --format json`; None if the set
        contains no logs.
    """

    verdict: str
    failed: bool
    rows: list[RunRow] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    check: dict[str, Any] | None = None
    score: dict[str, Any] | None = None

    @property
    def table(self) -> str:
        """The table of runs as text."""
        return format_run_table(self.rows)


def conclude_set(
    config: RunConfig, tree: ResultTree | Experiment, state: SetState, end: TrialEnd | None = None
) -> SetVerdict:
    """Checks and scores a set, moves a complete one to its final folder, writes the report.

    A complete set of the closed division becomes a result if it passes and has a score; else
    it moves to a separate folder. An experiment is not moved.

    Args:
      config: The settings of the set.
      tree: The tree that contains the set's logs.
      state: The set.
      end: End of the trial that ended the set early; None if no trial did.
    """
    result = _judge_set(config, tree, state.num_runs, end)
    if isinstance(tree, ResultTree) and tree.results != tree.published and end is None:
        is_scored = result.score is not None and result.score["seconds"] is not None
        if is_scored and not result.failed:
            tree.publish()
        else:
            tree.set_failed_aside(state)
        # The report must contain the new paths.
        result = _judge_set(config, tree, state.num_runs, end)
    _write_report(config, tree, state, result)
    return result


def _judge_set(
    config: RunConfig, tree: ResultTree | Experiment, num_runs: int, end: TrialEnd | None
) -> SetVerdict:
    """Checks and scores the logs of a set."""
    if not tree.finished_runs():
        return SetVerdict(_incomplete_verdict(end, 0, num_runs), failed=True)
    # A set in the v0.5 dialect is checked at level 2.
    ruleset = "ncf-v0.5-l2" if config.log_format == "v0.5" else "auto"
    result = checker.check_paths([tree.results], ruleset)
    found = scoring.score_folder(tree.results)
    verdict, failed = _decide(config, result, found, num_runs, end)
    check, score = result.as_json(), found.as_json()
    rows = [_table_row(entry) for entry in check["files"]]
    lines = [*_violation_lines(check), *_noise_lines(check), *_score_lines(score)]
    return SetVerdict(verdict, failed, rows, lines, check, score)


def _decide(
    config: RunConfig, check: CheckResult, score: scoring.Score, num_runs: int,
    end: TrialEnd | None,
) -> tuple[str, bool]:
    """Returns (text of the verdict, whether it is FAIL); an early end comes first."""
    if end is not None:
        return _incomplete_verdict(end, len(check.files), num_runs), True
    # The scorer does not know the number of runs of a user's own track.
    required = score.required or config.required_runs
    verdict = judge_set(check.files, score, required)
    return verdict.text, verdict.failed


def _incomplete_verdict(end: TrialEnd | None, runs: int, num_runs: int) -> str:
    """Returns the verdict on a set that ended early."""
    reason = end.reason if end else "no run"
    return f"FAIL: {reason}; {runs} of {num_runs} runs complete; continue with --resume"


def _table_row(entry: dict[str, Any]) -> RunRow:
    """Returns the row of the table for one log, from its entry in the check."""
    run = entry["run"]
    outcome = {True: "converged", False: "not converged", None: "unscored"}[run["converged"]]
    if entry["verdict"] != "pass":
        outcome += f", {COMPLIANCE_WORDS[entry['verdict']]}"
    return RunRow(
        run=_run_number(entry),
        seed=run["seed"],
        epochs=run["epochs"],
        accuracy=run["final_accuracy"],
        seconds=run["seconds"],
        outcome=outcome,
    )


def _run_number(entry: dict[str, Any]) -> int:
    """Returns the number of a run, from 0, which is part of its log's name."""
    return int(Path(entry["path"]).stem.rpartition("_")[2])


def _violation_lines(check: dict[str, Any]) -> list[str]:
    """Returns the first violations of the set, one per line, and the number of the others."""
    lines = []
    for entry in check["files"]:
        for violation in entry["violations"]:
            line = "" if violation["line"] is None else f":{violation['line']}"
            name = Path(entry["path"]).name
            lines.append(f"{name}{line}: {violation['rule']}: {violation['message']}")
    return _first_lines(lines)


def _noise_lines(check: dict[str, Any]) -> list[str]:
    """Returns one line for each run whose epochs vary, or are slower than other runs'."""
    return _first_lines([
        "warning: " + warning["message"].replace("this run", f"run {_run_number(entry)}")
        for entry in check["files"] for warning in entry["warnings"]
        if warning["rule"] in NOISE_RULES])  # fmt: skip


def _first_lines(lines: list[str]) -> list[str]:
    """Returns the first lines, and the number of the others."""
    num_hidden = len(lines) - _MAX_VIOLATIONS_SHOWN
    if num_hidden <= 0:
        return lines
    return [*lines[:_MAX_VIOLATIONS_SHOWN], f"... and {num_hidden} more"]


def _score_lines(score: dict[str, Any]) -> list[str]:
    """Returns the line of the score; an empty list if there is no score."""
    if score["seconds"] is None:
        return []
    return [scoring.score_words(score)]


def _with_relative_paths(
    root: Path, answer: dict[str, Any] | None, entries_key: str
) -> dict[str, Any] | None:
    """Returns `answer` with the paths of its entries relative to `root`, with slashes."""
    if answer is None:
        return None
    return {**answer, entries_key: [
        {**entry, "path": Path(os.path.relpath(entry["path"], root)).as_posix()}
        for entry in answer[entries_key]]}  # fmt: skip


def _write_report(
    config: RunConfig, tree: ResultTree | Experiment, state: SetState, result: SetVerdict
) -> None:
    """Writes the report of a set as JSON and as text.

    Their paths are relative to the system's folder, so that the folder can be moved.
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
        "settings": tree.settings_of(state.set_id) or config.shared_settings(),
        "score": _with_relative_paths(tree.root, result.score, "per_run"),
        "check": _with_relative_paths(tree.root, result.check, "files"),
    }
    stem = tree.report_stem
    write_json(stem.with_suffix(".json"), summary)
    text = "\n".join(
        [
            f"track {config.track_name}, {config.division} division, system {config.system}",
            "",
            *([result.table, ""] if result.rows else []),
            *result.lines,
            result.verdict,
        ]
    )
    write_text(stem.with_suffix(".txt"), text + "\n")
