"""`report`: formats each set under a folder, run by run, as text, JSON, CSV and Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Sequence

from compliance.base.text import printable_line
from compliance.checking.results import CheckResult, FileResult, Violation
from compliance.logs.stage_times import STAGES
from compliance.report import markdown
from compliance.report.formatting import format_log_count, format_number
from compliance.report.render import (
    RUN_COLUMN_KINDS,
    RUN_COLUMNS,
    RUN_CSV_COLUMNS,
    log_names,
    run_csv_values,
    run_row,
    score_sentence,
    violations_markdown,
    violations_text,
    wrapped_score_sentence,
)
from compliance.report.tables import render_table, to_csv, wrap_text
from compliance.results.run_set import RunSet, SetRun, read_sets
from compliance.results.scoring import Score, score_checked_set
from compliance.results.set_verdict import FAIL_WORD, PASS_WORD, compliance_text, judge_set

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """The answer of `report`.

    Attributes:
      check: The answer of `check` on all logs.
      sets: Each set with its score.
    """

    check: CheckResult
    sets: list[tuple[RunSet, Score]]

    def as_json(self) -> dict[str, Any]:
        """Returns the object of `report --format json`."""
        return {"schema_version": SCHEMA_VERSION, "check": self.check.as_json(),
                "sets": [_set_json(run_set, score) for run_set, score in self.sets]}


def build_report(folder: str | Path) -> Report:
    """Checks, reads and scores every set under a folder.

    Raises:
      UsageError: There is no such folder, or no log in it.
    """
    sets = []
    for run_set in read_sets(folder, "auto"):
        sets.append((run_set, score_checked_set(run_set.files)))
    files = [f for run_set, _ in sets for f in run_set.files]
    names = {f.ruleset for f in files}
    return Report(CheckResult(names.pop() if len(names) == 1 else None, files), sets)


def overall_throughput(runs: Sequence[SetRun], key: str) -> float | None:
    """Returns the total work over the total time: the harmonic mean of the logged rates.

    Every epoch of a set does the same work, so its time is that work divided by its rate.

    Args:
      runs: The logs.
      key: throughput or eval_throughput.

    Returns:
      The rate per second; None if the logs contain no rate.
    """
    rates = [s[key] for run in runs for _, _, s in run.timeline.epoch_stats
             if type(s.get(key)) in (int, float) and 1e-300 < s[key] < 1e300]
    return len(rates) / math.fsum(1 / rate for rate in rates) if rates else None


def stage_warning(run: SetRun) -> str | None:
    """Returns the warning if the stages of a run do not add up to its time, or None."""
    return run.stages.warning() if run.stages else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the values that are not None, or None."""
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _run_json(run: SetRun) -> dict[str, Any]:
    """Returns the object of one run."""
    facts, warning = run.file.summary, stage_warning(run)
    return {"path": run.file.path, "verdict": run.file.verdict, **facts.as_json(),
            "reason": facts.reason, "stages": run.stages.as_json() if run.stages else None,
            "throughput": overall_throughput([run], "throughput"),
            "eval_throughput": overall_throughput([run], "eval_throughput"),
            "batch_size": run.timeline.batch_size, "stage_warning": warning,
            "violations": [v.as_json() for v in run.file.errors.list()],
            "warnings": [v.as_json() for v in run.file.warnings.list()]}


def _set_json(run_set: RunSet, score: Score) -> dict[str, Any]:
    """Returns the object of one set."""
    runs = run_set.runs
    return {"path": run_set.path, "verdict": set_verdict(run_set.files), "score": score.as_json(),
            "summary": {
                "runs": len(runs), "converged": sum(r.converged for r in runs),
                "mean_seconds": _mean(r.file.summary.seconds for r in runs),
                "mean_epochs": _mean(r.file.summary.num_accuracies for r in runs),
                "mean_final_accuracy": _mean(_final_accuracy(r) for r in runs),
                "throughput": overall_throughput(runs, "throughput"),
                "eval_throughput": overall_throughput(runs, "eval_throughput"),
                "stages": {f"{s}_s": _mean(r.stages.as_json()[f"{s}_s"] for r in runs if r.stages)
                           for s in (*STAGES, "rest")}},
            "per_run": [_run_json(run) for run in runs]}


def _final_accuracy(run: SetRun) -> float | None:
    return run.file.summary.last_accuracy[0] if run.file.summary.last_accuracy else None


def set_verdict(files: list[FileResult]) -> str:
    """Returns fail if any log fails, else unreadable if any log is unreadable, else pass."""
    return CheckResult(None, files).verdict


def verdict_line(report: Report) -> str:
    """Returns PASS or FAIL with its reason; for several sets, the number of those that fail."""
    verdicts = [judge_set(run_set.files, score) for run_set, score in report.sets]
    if len(verdicts) == 1:
        return verdicts[0].text
    num_failed = sum(verdict.failed for verdict in verdicts)
    logs = format_log_count(len(report.check.files))
    return f"{FAIL_WORD}: {num_failed} of {len(verdicts)} sets, {logs}" if num_failed \
        else f"{PASS_WORD}: {len(verdicts)} sets, {logs}"


def report_text(report: Report, output_format: str) -> str:
    """Formats the answer of `report`.

    Args:
      report: The answer.
      output_format: table, csv or markdown.

    Returns:
      The text; the last line of a table, and the title of Markdown, is the verdict.
    """
    if output_format == "csv":
        return _report_csv(report)
    if output_format == "markdown":
        return markdown.page(verdict_line(report), *(
            part for run_set, score in report.sets for part in _set_markdown(run_set, score)))
    parts = []
    for run_set, score in report.sets:
        names = log_names(run_set.files)
        properties = ", ".join(f"{key} {value}" for key, value in _set_properties(run_set))
        verdict = judge_set(run_set.files, score)
        parts += [printable_line(run_set.path),
                  printable_line(f"{verdict.word}; {compliance_text(run_set.files)}; {properties}"),
                  _runs_table(run_set, names, output_format),
                  _stage_table(run_set, names, output_format), wrapped_score_sentence(score)]
        found = "\n".join(filter(None, [
            violations_text(names, run_set.files), _stage_warning_text(run_set, names)]))
        if found:
            parts.append(found)
    return "\n\n".join([*parts, printable_line(verdict_line(report))])


def _set_markdown(run_set: RunSet, score: Score) -> list[str]:
    """Returns the parts of one set in Markdown."""
    names = log_names(run_set.files)
    properties = ", ".join(
        f"{key} {markdown.code_span(value)}" for key, value in _set_properties(run_set))
    verdict = judge_set(run_set.files, score)
    warnings = [f"warning {markdown.code_span(name)}: {markdown.escape(text)}"
                for name, text in _stage_warnings(run_set, names)]
    return [f"### {markdown.code_span(run_set.path)}",
            f"**{verdict.word}**; {compliance_text(run_set.files)}; {properties}",
            _runs_table(run_set, names, "markdown"), _stage_table(run_set, names, "markdown"),
            markdown.escape(score_sentence(score)),
            "\n".join(filter(None, [violations_markdown(names, run_set.files),
                                    markdown.bullet_list(warnings)]))]


def _set_properties(run_set: RunSet) -> list[tuple[str, str]]:
    """Returns (name, value) of the track, division, target and batch size of a set."""
    facts = run_set.files[0].summary
    sizes = sorted({r.timeline.batch_size for r in run_set.runs if r.timeline.batch_size})
    return [("track", facts.track or "-"), ("division", facts.division or "-"),
            ("target", "-" if facts.target is None else str(facts.target)),
            ("batch size", ", ".join(map(str, sizes)) or "-")]


def _runs_table(run_set: RunSet, names: list[str], output_format: str) -> str:
    rows = [run_row(name, run.file) for name, run in zip(names, run_set.runs)]
    return render_table(RUN_COLUMNS, rows, output_format, RUN_COLUMN_KINDS)


def _stage_cells(run: SetRun) -> list[str]:
    if run.stages is None:
        return ["-"] * 6
    values = [*(getattr(run.stages, s) for s in STAGES), run.stages.other, run.stages.overlapped]
    return [format_number(v, 3) for v in values]


_STAGE_COLUMNS = (*STAGES, "other", "overlapped")
_STAGE_NOTE = "other: time in no stage; overlapped: sampling during other stages"


def _stage_table(run_set: RunSet, names: list[str], output_format: str) -> str:
    """Returns seconds by stage, and all training examples over all training time."""
    rows = [[name, *_stage_cells(run), format_number(overall_throughput([run], "throughput"), 0)]
            for name, run in zip(names, run_set.runs)]
    table = render_table(("seconds of", *_STAGE_COLUMNS, "examples/s"), rows, output_format,
                         "crrrrrrr")
    return table if output_format == "markdown" else f"{table}\n{_STAGE_NOTE}"


def _stage_warnings(run_set: RunSet, names: list[str]) -> list[tuple[str, str]]:
    """Returns (log, warning) for the runs whose stages do not add up."""
    warnings = [(name, stage_warning(run)) for name, run in zip(names, run_set.runs)]
    return [(name, text) for name, text in warnings if text]


def _stage_warning_text(run_set: RunSet, names: list[str]) -> str:
    """Returns the first stage warning and the number of other stage warnings."""
    found = _stage_warnings(run_set, names)
    if not found:
        return ""
    more_text = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"warning: {printable_line(found[0][0])}{more_text}  stages\n{wrap_text(found[0][1], 4)}"


def _report_csv(report: Report) -> str:
    """Returns a row for each run."""
    header = ("set", "log", "track", "division", "batch_size", *RUN_CSV_COLUMNS,
              *(f"{stage}_seconds" for stage in (*STAGES, "rest", "hidden_sampling")),
              "train_examples_per_second", "eval_pairs_per_second", "counted_in_score",
              "set_score_seconds", "violations", "warnings", "rules_broken")
    rows = []
    for run_set, score in report.sets:
        for name, run in zip(log_names(run_set.files), run_set.runs):
            facts, errors = run.file.summary, run.file.errors.list()
            stages = [getattr(run.stages, s) if run.stages else None
                      for s in (*STAGES, "other", "overlapped")]
            rows.append([
                run_set.path, name, facts.track, facts.division, run.timeline.batch_size,
                *run_csv_values(run.file), *stages, overall_throughput([run], "throughput"),
                overall_throughput([run], "eval_throughput"), run.file.path in score.counted,
                score.result.seconds, _count_violations(errors),
                _count_violations(run.file.warnings.list()),
                " ".join(dict.fromkeys(v.rule for v in errors)) or None])
    return to_csv(header, rows)


def _count_violations(violations: list[Violation]) -> int:
    return sum(v.count or 1 for v in violations)
