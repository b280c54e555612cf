"""Collects the values for the section of one set."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any, Sequence

from compliance.rcp.verdict import check_set_convergence
from compliance.report.convergence import convergence_sentence
from compliance.report.formatting import (
    format_hit_rate,
    format_number,
    format_rate_with_prefix,
    format_seconds,
)
from compliance.report.html.figures import (
    curve_figures,
    quality_figures,
    stage_figures,
    throughput_figure,
    times_figure,
)
from compliance.report.html.findings import collect_findings
from compliance.report.html.limits import (
    RowLimits,
    clip_text,
    number_within,
)
from compliance.report.html.runs import (
    RunView,
    hit_rate_name,
    run_views,
)
from compliance.report.html.settings import read_system_description, settings_tables, system_tables
from compliance.report.html.tables import epochs_table, runs_table, stage_table
from compliance.results.run_set import RunSet
from compliance.results.scoring import (
    CI_MIN_RUNS,
    OLYMPIC_MEAN,
    RESAMPLES,
    SOURCES,
    V05_RUNS,
    V05_RUNS_TAKEN,
    Score,
)
from compliance.results.set_verdict import judge_set


def set_section(key: str, run_set: RunSet, score: Score, limits: RowLimits) -> dict[str, Any]:
    """Collects all values of one set for the page.

    Args:
      key: The prefix of every id in the section; unique in the page.
      run_set: The set.
      score: Its score.
      limits: The maximum number of rows of its tables.

    Returns:
      The values for the template set.html.
    """
    views = run_views(run_set, score)
    findings, num_more_rules = collect_findings(views)
    hit_rate_label = hit_rate_name(run_set)
    return {
        "key": key, **headline(run_set, score, views),
        "figures": [f for f in (
            *curve_figures(key, run_set, views), times_figure(key, views, score),
            *stage_figures(key, views), throughput_figure(key, views),
            *quality_figures(key, run_set, views)) if f],
        "convergence": clip_text(convergence_sentence(check_set_convergence(run_set))),
        "stages": stage_table(key, views, limits),
        "settings": settings_tables(key, run_set, views),
        "system": system_tables(key, run_set, views),
        "findings": findings, "more_rules": num_more_rules,
        "numbers": [runs_table(key, views, limits, hit_rate_label),
                    epochs_table(key, views, limits, hit_rate_label)]}


def headline(run_set: RunSet, score: Score, views: Sequence[RunView]) -> dict[str, Any]:
    """Returns verdict, score, method and summary of a set, for the templates."""
    verdict = judge_set(run_set.files, score)
    track = run_set.files[0].summary.track or (run_set.track.name if run_set.track else None)
    result = score.result
    return {
        "verdict": verdict.word.lower(), "word": verdict.word,
        "verdict_reason": clip_text(verdict.reason), "path": clip_text(run_set.path, 200),
        "title": clip_text(f"{track or 'NCF'} on {_platform(run_set, views)}", 120),
        "score": format_seconds(result.seconds) if result.seconds is not None else None,
        "reason": clip_text(result.reason or ""), "interval": interval_text(score),
        "method": method_text(score), "source": SOURCES[score.rule],
        "judged": rulesets_text(run_set, score), "tiles": _summary_tiles(run_set, score, views),
        "errors": sum(len(f.errors.list()) for f in run_set.files),
        "warnings": sum(len(f.warnings.list()) for f in run_set.files)}


def _platform(run_set: RunSet, views: Sequence[RunView]) -> str:
    """Returns the system's name from the logs, else from the folder."""
    named = next((v.run.timeline.descriptions["submission_platform"][0] for v in views
                  if "submission_platform" in v.run.timeline.descriptions), None)
    folder = Path(run_set.path).absolute()
    return str(named or (folder.parent if folder.name.startswith("ncf") else folder).name)


def rulesets_text(run_set: RunSet, score: Score) -> str:
    """Returns a text on the rulesets that were used for `check` and for the score."""
    names = sorted({f.ruleset or "no ruleset" for f in run_set.files})
    scored = sorted({f.ruleset or "no ruleset" for f in score.files})
    num_failing = sum(f.verdict != "pass" for f in run_set.files)
    num_logs = len(run_set.files)
    text = f"{num_logs - num_failing} of {num_logs} logs compliant under {', '.join(names)}."
    if scored != names:
        text += (f" The score is based on {', '.join(scored)}: the original scorer of v0.5 "
                 "requires no more once a set is accepted.")
    return text


def interval_text(score: Score) -> str:
    """Returns the 95% interval of the score in words, or the reason why there is none."""
    if score.result.seconds is None:
        return ""
    if score.ci95:
        return f"95% interval {format_seconds(score.ci95[0])} to {format_seconds(score.ci95[1])} s"
    if len(score.runs) < CI_MIN_RUNS:
        return f"no 95% interval with fewer than {CI_MIN_RUNS} runs"
    return "no 95% interval: most resampled sets have no score"


def method_text(score: Score) -> str:
    """Returns the scoring rule in words, with this set's numbers."""
    interval = (f" The interval is the middle 95% of the scores of {RESAMPLES:,} sets drawn with "
           "replacement from these runs; the whole rule is applied to each.") if score.ci95 else ""
    if score.rule == OLYMPIC_MEAN:
        count = f"{score.required} " if score.required else ""
        return (f"Olympic mean of the times to train: the fastest and the slowest of the {count}"
                "required runs are dropped, and the rest are averaged. A run that "
                f"missed the target counts as the slowest; at most one run may miss it.{interval}")
    return (f"MLPerf v0.5's rule for NCF: of {V05_RUNS} runs, in the order of their start, the "
            f"first {V05_RUNS_TAKEN} that reached the target are taken; the fastest and the "
            f"slowest of these are dropped, and the other {V05_RUNS_TAKEN - 2} are averaged."
            f"{interval}")


def _summary_tiles(run_set: RunSet, score: Score, views: Sequence[RunView]
                   ) -> list[tuple[str, str, str]]:
    """Returns (name, value, remark) of the most important figures."""
    complete_runs = [v for v in views if v.run.is_complete_run]
    reached = [v for v in complete_runs if v.run.converged]
    epochs = [v.run.epochs_to_target for v in reached if v.run.epochs_to_target]
    best = [number_within(f.summary.best_accuracy[0], 0, 1)
            for f in run_set.files if f.summary.best_accuracy]
    rates = [y for v in views for _, y in v.throughput_by_epoch()]
    sizes = sorted({v.run.timeline.batch_size for v in views if v.run.timeline.batch_size})
    target = run_set.target
    required = f"{score.required} required" if score.required else ""
    divisions = {f.summary.division for f in run_set.files} - {None}
    if not divisions:
        # v0.5 logs do not contain the division; the system's description does.
        description = read_system_description(Path(run_set.path))[1]
        divisions = {description.get("division")} if isinstance(description, dict) else {None}
    return [
        ("Runs converged", f"{len(reached)} of {len(complete_runs)}", required),
        (f"Target {hit_rate_name(run_set)}",
         clip_text("-" if target is None else f"{target:g}", 12),
         f"best {format_hit_rate(max(b for b in best if b is not None))}"
         if any(b is not None for b in best) else ""),
        ("Epochs to target", format_number(math.fsum(epochs) / len(epochs), 1) if epochs else "-",
         f"arithmetic mean of {len(epochs)} run{'s' * (len(epochs) != 1)}, "
         f"{min(epochs)} to {max(epochs)}"
         if epochs else ""),
        # Every epoch has the same number of examples: total examples over total seconds.
        ("Training examples/s",
         format_rate_with_prefix(len(rates) / math.fsum(1 / rate for rate in rates))
         if rates else "-",
         "all examples over all training time" if rates else "not in the logs"),
        ("Batch size", clip_text(", ".join(f"{s:,}" for s in sizes[:3]), 24) or "-",
         clip_text(", ".join(sorted(f"{d or 'unknown'} division" for d in divisions)), 60)),
        ("Run on", *_start_dates(run_set))]


def _start_dates(run_set: RunSet) -> tuple[str, str]:
    """Returns the first and the last start of a run, in UTC."""
    starts = sorted(t for f in run_set.files
                    if (t := number_within(f.summary.time("run_start"), 1, 4e9)))
    if not starts:
        return "-", "no start time in the logs"
    first, last = (datetime.datetime.fromtimestamp(t, datetime.timezone.utc)
                   for t in (starts[0], starts[-1]))
    return f"{first:%Y-%m-%d}", f"{first:%H:%M} to {last:%H:%M} UTC" \
        if first.date() == last.date() else f"to {last:%Y-%m-%d}"
