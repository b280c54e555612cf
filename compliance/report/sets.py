"""What `report` prints: each set under a folder, run by run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable

from compliance.checking.results import CheckResult, FileResult, Violation
from compliance.logs.stage_times import STAGES
from compliance.report import markdown
from compliance.report.render import (
    KINDS,
    RUN_COLUMNS,
    RUN_CSV,
    WORDS,
    logs,
    run_csv,
    run_row,
    score_line,
    score_title,
    score_words,
    short_paths,
    violations_markdown,
    violations_text,
)
from compliance.report.tables import as_csv, number, render, wrap
from compliance.report.text import plain
from compliance.results.run_set import RunSet, SetRun, read_sets
from compliance.results.scoring import Score, score_judged

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
    """The answer; the last line of a table is the verdict, Markdown's title too."""
    if form == "csv":
        return _csv(report)
    verdict = f"{WORDS[report.check.verdict]}: {logs(len(report.check.files))}"
    if form == "markdown":
        return markdown.page(_with_score(verdict, report), *(
            part for runs, score in report.sets for part in _set_markdown(runs, score)))
    parts = []
    for runs, score in report.sets:
        names = short_paths(runs.files)
        about = ", ".join(f"{key} {value}" for key, value in _about(runs))
        parts += [plain(runs.path), plain(f"{WORDS[verdict_of(runs.files)]}; {about}"),
                  _runs_table(runs, names, form), _stage_table(runs, names, form),
                  score_line(score)]
        found = "\n".join(filter(None, [
            violations_text(names, runs.files), _stage_warnings(runs, names)]))
        if found:
            parts.append(found)
    return "\n\n".join([*parts, verdict])


def _with_score(verdict: str, report: Report) -> str:
    return f"{verdict}; {score_title(report.sets[0][1])}" if len(report.sets) == 1 else verdict


def _set_markdown(runs: RunSet, score: Score) -> list[str]:
    names = short_paths(runs.files)
    about = ", ".join(f"{key} {markdown.code(value)}" for key, value in _about(runs))
    warned = [f"warning {markdown.code(name)}: {markdown.escaped(text)}"
              for name, text in _loose_stages(runs, names)]
    return [f"### {markdown.code(runs.path)}", f"**{WORDS[verdict_of(runs.files)]}**; {about}",
            _runs_table(runs, names, "markdown"), _stage_table(runs, names, "markdown"),
            markdown.escaped(score_words(score)),
            "\n".join(filter(None, [violations_markdown(names, runs.files),
                                    markdown.listed(warned)]))]


def _about(runs: RunSet) -> list[tuple[str, str]]:
    facts = runs.files[0].facts
    sizes = sorted({r.line.batch_size for r in runs.runs if r.line.batch_size})
    return [("track", facts.track or "-"), ("division", facts.division or "-"),
            ("target", "-" if facts.target is None else str(facts.target)),
            ("batch size", ", ".join(map(str, sizes)) or "-")]


def _runs_table(runs: RunSet, names: list[str], form: str) -> str:
    rows = [run_row(name, run.file) for name, run in zip(names, runs.runs)]
    return render(RUN_COLUMNS, rows, form, KINDS)


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
    return render(("seconds of", *_STAGE_COLUMNS, "train/s"), rows, form, "crrrrrrr")


def _loose_stages(runs: RunSet, names: list[str]) -> list[tuple[str, str]]:
    """(log, why) of the runs whose stages do not add up."""
    warnings = [(name, stage_warning(run)) for name, run in zip(names, runs.runs)]
    return [(name, text) for name, text in warnings if text]


def _stage_warnings(runs: RunSet, names: list[str]) -> str:
    """The first run whose stages do not add up, and how many more there are."""
    found = _loose_stages(runs, names)
    if not found:
        return ""
    also = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"warning: {plain(found[0][0])}{also}  stages\n{wrap(found[0][1], 4)}"


def _csv(report: Report) -> str:
    """A row a run; `check --format csv` has a row a violation."""
    header = ("set", "log", "track", "division", "batch_size", *RUN_CSV,
              *(f"{stage}_seconds" for stage in (*STAGES, "rest", "hidden_sampling")),
              "train_examples_per_second", "eval_pairs_per_second", "counted_in_score",
              "set_score_seconds", "violations", "warnings", "rules_broken")
    rows = []
    for runs, score in report.sets:
        for name, run in zip(short_paths(runs.files), runs.runs):
            facts, found = run.file.facts, run.file.errors.list()
            stages = [getattr(run.stages, s) if run.stages else None
                      for s in (*STAGES, "rest", "hidden")]
            rows.append([
                runs.path, name, facts.track, facts.division, run.line.batch_size,
                *run_csv(run.file), *stages, throughput(run, "throughput"),
                throughput(run, "eval_throughput"), run.file.path in score.counted,
                score.outcome.seconds, _count(found), _count(run.file.warnings.list()),
                " ".join(dict.fromkeys(v.rule for v in found)) or None])
    return as_csv(header, rows)


def _count(found: list[Violation]) -> int:
    return sum(v.count or 1 for v in found)
