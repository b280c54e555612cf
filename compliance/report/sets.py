"""What `report` prints: each set under a folder, run by run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable

from compliance.checker import CheckResult, FileResult
from compliance.report.render import (RIGHT, RUN_COLUMNS, WORDS, logs, run_row, score_line,
                                      short_paths, violations_text)
from compliance.report.tables import number, plain, render, wrap
from compliance.runsets import RunSet, SetRun, read_sets
from compliance.scoring import Score, score_judged
from compliance.stages import STAGES

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """The answer: what `check` says, and each set with its score."""

    check: CheckResult
    sets: list[tuple[RunSet, Score]]

    def as_json(self) -> dict[str, Any]:
        """The whole answer."""
        return {"schema_version": SCHEMA_VERSION, "check": self.check.as_json(),
                "sets": [_set_json(runs, score) for runs, score in self.sets]}


def make_report(folder: str | Path) -> Report:
    """Judges, times and scores every set under a folder.  Raises UsageError."""
    sets = []
    for runs in read_sets(folder, "auto"):
        sets.append((runs, score_judged(runs.files)))
    files = [f for runs, _ in sets for f in runs.files]
    names = {f.ruleset for f in files}
    return Report(CheckResult(names.pop() if len(names) == 1 else None, files), sets)


def throughput(run: SetRun, key: str) -> float | None:
    """Mean over the epochs of what the log itself says, in 1/s."""
    values = [s[key] for _, _, s in run.line.stats
              if type(s.get(key)) in (int, float) and 0 < s[key] < 1e300]
    return _mean(values)


def stage_warning(run: SetRun) -> str | None:
    """Why the run's stages do not add up, if they do not."""
    return run.stages.warning() if run.stages else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _run_json(run: SetRun) -> dict[str, Any]:
    facts, warning = run.file.facts, stage_warning(run)
    return {"path": run.file.path, "verdict": run.file.verdict, **facts.as_json(),
            "reason": facts.reason, "stages": run.stages.as_json() if run.stages else None,
            "throughput": throughput(run, "throughput"),
            "eval_throughput": throughput(run, "eval_throughput"),
            "batch_size": run.line.batch_size, "stage_warning": warning,
            "violations": [v.as_json() for v in run.file.errors.list()],
            "warnings": [v.as_json() for v in run.file.warnings.list()]}


def _set_json(runs: RunSet, score: Score) -> dict[str, Any]:
    members = runs.runs
    return {"path": runs.path, "verdict": verdict_of(runs.files), "score": score.as_json(),
            "summary": {
                "runs": len(members), "converged": sum(r.converged for r in members),
                "mean_seconds": _mean(r.file.facts.seconds for r in members),
                "mean_epochs": _mean(r.file.facts.accuracies for r in members),
                "mean_final_accuracy": _mean(_final(r) for r in members),
                "throughput": _mean(throughput(r, "throughput") for r in members),
                "eval_throughput": _mean(throughput(r, "eval_throughput") for r in members),
                "stages": {f"{s}_s": _mean(getattr(r.stages, s) for r in members if r.stages)
                           for s in (*STAGES, "rest")}},
            "per_run": [_run_json(run) for run in members]}


def _final(run: SetRun) -> float | None:
    return run.file.facts.last[0] if run.file.facts.last else None


def verdict_of(files: list[FileResult]) -> str:
    """fail if any file fails, else unreadable if any is, else pass."""
    return CheckResult(None, files).verdict


def report_text(report: Report, form: str) -> str:
    """The answer as a table, CSV or Markdown; the last line of a table is the verdict."""
    if form == "csv":
        return _csv(report)
    parts = []
    for runs, score in report.sets:
        names = short_paths(runs.files)
        head = "## " if form == "markdown" else ""
        parts += [f"{head}{plain(runs.path)}", _about(runs), _runs_table(runs, names, form),
                  _stage_table(runs, names, form), score_line(score)]
        found = "\n".join(filter(None, [
            violations_text(names, runs.files), _stage_warnings(runs, names)]))
        if found:
            parts.append(f"```\n{found}\n```" if form == "markdown" else found)
    return "\n\n".join([*parts, f"{WORDS[report.check.verdict]}: {logs(len(report.check.files))}"])


def _about(runs: RunSet) -> str:
    facts = runs.files[0].facts
    sizes = sorted({r.line.batch_size for r in runs.runs if r.line.batch_size})
    target = "-" if facts.target is None else facts.target
    return plain(f"{WORDS[verdict_of(runs.files)]}; track {facts.track or '-'}, division "
                 f"{facts.division or '-'}, target {target}, batch size "
                 f"{', '.join(map(str, sizes)) or '-'}")


def _runs_table(runs: RunSet, names: list[str], form: str) -> str:
    rows = [run_row(name, run.file) for name, run in zip(names, runs.runs)]
    return render(RUN_COLUMNS, rows, form, RIGHT)


def _stage_cells(run: SetRun) -> list[str]:
    if run.stages is None:
        return ["-"] * 6
    values = [*(getattr(run.stages, s) for s in STAGES), run.stages.rest, run.stages.hidden]
    return [number(v, 3) for v in values]


_STAGE_COLUMNS = (*STAGES, "rest", "hidden")


def _stage_table(runs: RunSet, names: list[str], form: str) -> str:
    """Seconds by stage; `hidden` is sampling in the background, part of other stages."""
    rows = [[name, *_stage_cells(run), number(throughput(run, "throughput"), 0)]
            for name, run in zip(names, runs.runs)]
    return render(("seconds of", *_STAGE_COLUMNS, "train/s"), rows, form, "lrrrrrrr")


def _stage_warnings(runs: RunSet, names: list[str]) -> str:
    """The first run whose stages do not add up, and how many more there are."""
    found = [(name, stage_warning(run)) for name, run in zip(names, runs.runs)
             if stage_warning(run)]
    if not found:
        return ""
    also = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"warning: {plain(found[0][0])}{also}  stages\n{wrap(found[0][1], 4)}"


def _csv(report: Report) -> str:
    header = ("set", *RUN_COLUMNS, *(f"{s}_s" for s in _STAGE_COLUMNS), "train/s", "eval/s",
              "rule", "line", "message", "fix")
    rows = []
    for runs, _ in report.sets:
        for name, run in zip(short_paths(runs.files), runs.runs):
            start = [runs.path, *run_row(name, run.file), *_stage_cells(run),
                     number(throughput(run, "throughput"), 0),
                     number(throughput(run, "eval_throughput"), 0)]
            found = run.file.errors.list()
            rows += [[*start, v.rule, str(v.line or ""), v.message, v.fix] for v in found] \
                or [[*start, "", "", "", ""]]
    return render(header, rows, "csv")
