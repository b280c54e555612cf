"""The sections of one set: what stands in the page, before it is put into words of HTML."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any, Sequence

from compliance.rcp.verdict import judge_set
from compliance.report.answers import sentence
from compliance.report.html import plots
from compliance.report.html.findings import findings
from compliance.report.html.limits import (
    MAX_CURVES,
    MAX_MARKS,
    MAX_POINTS,
    MAX_STACKS,
    Rows,
    real,
    short,
    spread,
    thin,
)
from compliance.report.html.plots import MISSED
from compliance.report.html.runs import (
    MAX_SECONDS,
    STAGE_NAMES,
    RunView,
    hit_rate_name,
    total,
    views,
)
from compliance.report.html.settings import description, settings_tables, system_tables
from compliance.report.html.tables import Table, left_out, percent, rate, seconds, table
from compliance.report.render import WORDS, yes
from compliance.report.sets import verdict_of
from compliance.report.tables import number, share
from compliance.results.run_set import RunSet
from compliance.results.scoring import (
    CI_MIN_RUNS,
    OLYMPIC,
    RESAMPLES,
    SOURCES,
    V05_RUNS,
    V05_TAKEN,
    Score,
)

ELSEWHERE = "python -m compliance report --format csv has every run"


def set_section(key: str, runs: RunSet, score: Score, rows: Rows) -> dict[str, Any]:
    """Everything that the page shows of one set.  key: unique in the page, for ids."""
    members = views(runs, score)
    found, more = findings(members)
    hr = hit_rate_name(runs)
    return {
        "key": key, **headline(runs, score, members),
        "figures": [f for f in (
            *curve_figures(key, runs, members), times_figure(key, members, score),
            *stage_figures(key, members), rate_figure(key, members)) if f],
        "convergence": short(sentence(judge_set(runs))),
        "stages": stage_table(key, members, rows),
        "settings": settings_tables(key, runs, members),
        "system": system_tables(key, runs, members),
        "findings": found, "more_rules": more,
        "numbers": [runs_table(key, members, rows, hr), epochs_table(key, members, rows, hr)]}


def _time(view: RunView) -> float:
    return view.seconds if view.seconds is not None else math.inf


def headline(runs: RunSet, score: Score, members: Sequence[RunView]) -> dict[str, Any]:
    """Verdict and score with its interval and method; the figures beside them."""
    verdict = verdict_of(runs.files)
    track = runs.files[0].facts.track or (runs.track.name if runs.track else None)
    out = score.outcome
    return {
        "verdict": verdict, "word": WORDS[verdict], "path": short(runs.path, 200),
        "title": short(f"{track or 'NCF'} on {_platform(runs, members)}", 120),
        "score": seconds(out.seconds) if out.seconds is not None else None,
        "reason": short(out.reason or ""), "interval": interval_text(score),
        "method": method_text(score), "source": SOURCES[score.rule],
        "judged": judged_text(runs, score), "tiles": _tiles(runs, score, members),
        "errors": sum(len(f.errors.list()) for f in runs.files),
        "warnings": sum(len(f.warnings.list()) for f in runs.files)}


def _platform(runs: RunSet, members: Sequence[RunView]) -> str:
    """The system's name as the logs have it, else as the folders have it."""
    named = next((v.run.line.about["submission_platform"][0] for v in members
                  if "submission_platform" in v.run.line.about), None)
    folder = Path(runs.path).absolute()
    return str(named or (folder.parent if folder.name.startswith("ncf") else folder).name)


def judged_text(runs: RunSet, score: Score) -> str:
    """Which rules the logs were judged by, for the check and for the score."""
    names = sorted({f.ruleset or "no ruleset" for f in runs.files})
    scored = sorted({f.ruleset or "no ruleset" for f in score.files})
    bad = sum(f.verdict != "pass" for f in runs.files)
    text = f"{len(runs.files) - bad} of {len(runs.files)} logs pass {', '.join(names)}."
    if scored != names:
        text += (f" The score rests on {', '.join(scored)}: the original scorer of v0.5 asks "
                 "for no more once a set is accepted.")
    return text


def interval_text(score: Score) -> str:
    """The 95% interval of the score, or why there is none."""
    if score.outcome.seconds is None:
        return ""
    if score.ci95:
        return f"95% interval {seconds(score.ci95[0])} to {seconds(score.ci95[1])} s"
    if len(score.runs) < CI_MIN_RUNS:
        return f"no 95% interval below {CI_MIN_RUNS} runs"
    return "no 95% interval: most resampled sets would have no score"


def method_text(score: Score) -> str:
    """The scoring rule in words, with this set's numbers."""
    how = (f" The interval is the middle 95% of the scores of {RESAMPLES:,} sets drawn with "
           "replacement from these runs, the whole rule applied to each.") if score.ci95 else ""
    if score.rule == OLYMPIC:
        count = f"{score.required} " if score.required else ""
        return (f"Olympic mean of the times to train: of the {count}runs that the track requires "
                "the fastest and the slowest are dropped and the rest averaged. A run that did "
                f"not reach the target counts as the slowest, and at most one may.{how}")
    return (f"MLPerf v0.5's rule for NCF: of {V05_RUNS} runs, in the order of their start, the "
            f"first {V05_TAKEN} that reached the target are taken; the fastest and the slowest "
            f"of these are dropped and the other {V05_TAKEN - 2} averaged.{how}")


def _tiles(runs: RunSet, score: Score, members: Sequence[RunView]) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the figures that matter most."""
    complete = [v for v in members if v.run.is_run]
    reached = [v for v in complete if v.run.converged]
    epochs = [v.run.epochs for v in reached if v.run.epochs]
    best = [real(f.facts.best[0], 0, 1) for f in runs.files if f.facts.best]
    rates = [y for v in members for _, y in v.rates()]
    sizes = sorted({v.run.line.batch_size for v in members if v.run.line.batch_size})
    target = runs.target
    required = f"the track requires {score.required}" if score.required else ""
    divisions = {f.facts.division for f in runs.files} - {None}
    if not divisions:
        about = description(Path(runs.path))[1]
        divisions = {about.get("division")} if isinstance(about, dict) else {None}
    return [
        ("Runs converged", f"{len(reached)} of {len(complete)}", required),
        (f"Target {hit_rate_name(runs)}", short("-" if target is None else f"{target:g}", 12),
         f"best {share(max(b for b in best if b is not None))}"
         if any(b is not None for b in best) else ""),
        ("Epochs to target", number(math.fsum(epochs) / len(epochs), 1) if epochs else "-",
         f"{min(epochs)} to {max(epochs)}" if epochs else ""),
        ("Training examples/s", _human(math.fsum(rates) / len(rates)) if rates else "-",
         "mean over all epochs" if rates else "not in the logs"),
        ("Batch size", short(", ".join(f"{s:,}" for s in sizes[:3]), 24) or "-",
         short(", ".join(sorted(f"{d or 'unknown'} division" for d in divisions)), 60)),
        ("Run on", *_dates(runs))]


def _human(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _dates(runs: RunSet) -> tuple[str, str]:
    """First and last start, UTC, as the logs say."""
    starts = sorted(t for f in runs.files if (t := real(f.facts.time("run_start"), 1, 4e9)))
    if not starts:
        return "-", "no time of a start"
    first, last = (datetime.datetime.fromtimestamp(t, datetime.timezone.utc)
                   for t in (starts[0], starts[-1]))
    return f"{first:%Y-%m-%d}", f"{first:%H:%M} to {last:%H:%M} UTC" \
        if first.date() == last.date() else f"to {last:%Y-%m-%d}"


def figure(key: str, heading: str, caption: str, svg: Any) -> dict[str, Any]:
    """A plot with its words."""
    return {"id": key, "heading": heading, "caption": caption, "svg": svg}


def _lines(members: Sequence[RunView], points: Any) -> tuple[list[plots.Curve], str]:
    """The curves that are drawn, and a sentence on those that are not."""
    able = [view for view in members if points(view)]
    shown = {id(view) for view in spread(sorted(able, key=_time), MAX_CURVES)}
    kept = [view for view in able if id(view) in shown]
    limit = max(MAX_POINTS // max(len(kept), 1), 6)
    every = [points(view) for view in kept]
    curves = [plots.Curve(view.name, thin(p, limit), view.tip,
                          "converged" if view.run.converged else MISSED)
              for view, p in zip(kept, every)]
    notes = []
    if len(kept) < len(able):
        notes.append(f"{len(kept)} of {len(able)} runs are drawn, evenly spaced from the fastest "
                     "to the slowest.")
    if any(len(p) > limit for p in every):
        notes.append("Curves are thinned out to their ends, peaks and dips.")
    return curves, " ".join(notes)


def curve_figures(key: str, runs: RunSet, members: Sequence[RunView]) -> list[dict[str, Any]]:
    """Hit rate by epoch and by wall time."""
    hr = hit_rate_name(runs)
    target = real(runs.target, 0, 1)
    reached = sum(v.run.converged for v in members)
    found = []
    for name, what, x, points in (
            ("epoch", f"{hr} by epoch", "epoch", RunView.by_epoch),
            ("time", f"{hr} by wall time", "seconds since run_start", RunView.by_time)):
        curves, note = _lines(members, points)
        if curves:
            aim = "no one target" if target is None else f"target {target:g}"
            label = f"{what} of {len(curves)} runs, {reached} reached the target; {aim}."
            found.append(figure(f"{key}-hr-{name}", what, f"{label} {note}", plots.curves(
                f"{key}-hr-{name}", label, curves, x, hr, target)))
    return found


def times_figure(key: str, members: Sequence[RunView], score: Score) -> dict[str, Any] | None:
    """Seconds of every run and what the score dropped."""
    shown = {id(v) for v in spread(sorted(members, key=_time), MAX_MARKS)}
    marks = [plots.Mark(v.name, s, v.role, v.tip) for v in members
             if id(v) in shown and (s := real(v.seconds, 0, MAX_SECONDS)) is not None]
    if not marks:
        return None
    out = score.outcome
    label = f"Time to train of {len(marks)} runs, {_spelled(marks)}."
    what = "Dropped: " + " and ".join(
        f"the {name} ({seconds(value)} s)" for name, value in
        (("fastest", out.fastest), ("slowest", out.slowest)) if value is not None) + "." \
        if out.seconds is not None else f"No score: {out.reason}."
    if len(shown) < len(members):
        what += (f" {len(shown)} of {len(members)} runs are drawn, evenly spaced from the fastest "
                 "to the slowest.")
    return figure(f"{key}-times", "Time to train", f"From run_start to run_stop. {short(what)}",
                  plots.times(f"{key}-times", label, marks, real(out.seconds, 0, MAX_SECONDS),
                              score.ci95))


def _spelled(marks: Sequence[plots.Mark]) -> str:
    values = [mark.seconds for mark in marks]
    return f"{seconds(min(values))} to {seconds(max(values))} s"


def stage_figures(key: str, members: Sequence[RunView]) -> list[dict[str, Any]]:
    """Where the time went, in seconds and as a share."""
    able = [(view.name, view.stages) for view in members if view.stages and total(view.stages) > 0]
    if not able:
        return []
    names, values = [name for name, _ in able], [parts for _, parts in able]
    whole = math.fsum(map(total, values))
    words = ", ".join(
        f"{name} {100 * total(column) / whole:.1f}%" if any(p is not None for p in column)
        else f"{name} not told apart in the logs"
        for name, column in zip(STAGE_NAMES, zip(*values)))
    label = f"Where the time of {len(able)} runs went: {words}."
    shown = spread(range(len(able)), MAX_STACKS)
    names, values = [names[i] for i in shown], [values[i] for i in shown]
    drawn = f" {len(shown)} of {len(able)} runs are drawn, evenly spaced." \
        if len(shown) < len(able) else ""
    shares = [[None if p is None else 100 * p / total(parts) for p in parts] for parts in values]
    return [
        figure(f"{key}-stages", "Where the time went", f"All runs together: {words}.{drawn}",
               plots.stages(f"{key}-stages", label, names, STAGE_NAMES, values, "seconds")),
        figure(f"{key}-shares", "Where the time went, as a share",
               "Sampling is what the run waits for; what is drawn in the background costs nothing.",
               plots.stages(f"{key}-shares", label, names, STAGE_NAMES, shares,
                            "% of the run"))]


def rate_figure(key: str, members: Sequence[RunView]) -> dict[str, Any] | None:
    """Training throughput by epoch."""
    curves, note = _lines(members, RunView.rates)
    if not curves:
        return None
    values = [y for curve in curves for _, y in curve.points]
    label = (f"Training examples per second by epoch, {_human(min(values))} to "
             f"{_human(max(values))}.")
    if any(view.derived for view in members):
        note += (" Computed: the track's examples of an epoch over the time from train_epoch to "
                 "eval_start; v0.5 logs state no throughput.")
    return figure(f"{key}-rate", "Throughput by epoch", f"{label} {note}",
                  plots.curves(f"{key}-rate", label, curves, "epoch", "examples/s", None, True))


def stage_table(key: str, members: Sequence[RunView], rows: Rows) -> Table:
    """Seconds and shares of each run's stages."""
    cells = []
    for view in members[:rows.runs]:
        parts, whole = view.stages, view.run.stages.total if view.run.stages else None
        pairs = [(seconds(p), percent(p, whole)) for p in parts] if parts else [("-", "-")] * 5
        hidden = view.run.stages.hidden if parts and view.run.stages else None
        cells.append([view.name, seconds(view.seconds), *(c for pair in pairs for c in pair),
                      seconds(hidden)])
    columns = ["run", ">total (s)"]
    for name in STAGE_NAMES:
        columns += [f">{name} (s)", f">{name} (%)"]
    return table(f"{key}-stage-table", "Seconds and share of each stage",
                 (*columns, ">background (s)"), cells,
                 left_out("runs", len(cells), len(members), ELSEWHERE), len(cells) > 10)


def runs_table(key: str, members: Sequence[RunView], rows: Rows, hr: str) -> Table:
    """A row a run."""
    cells = []
    for view in members[:rows.runs]:
        facts = view.run.file.facts.as_json()
        rates = [y for _, y in view.rates()]
        cells.append([view.name, WORDS[view.run.file.verdict], "-" if facts["seed"] is None
                      else short(facts["seed"], 40), seconds(facts["seconds"]),
                      str(facts["epochs"]), _exact(facts["final_accuracy"]),
                      _exact(facts["best_accuracy"]), yes(facts["converged"]), view.role,
                      rate(math.fsum(rates) / len(rates) if rates else None),
                      view.run.file.sha256 or "-"])
    return table(f"{key}-runs", "Every run", (
        "run", "check", ">seed", ">time to train (s)", ">epochs", f">last {hr}", f">best {hr}",
        "converged", "in the score", ">examples/s", "SHA-256 of the log"), cells,
        left_out("runs", len(cells), len(members), ELSEWHERE), len(cells) > 30)


def _exact(value: Any) -> str:
    value = real(value, -1e6, 1e6)
    return "-" if value is None else f"{value:.9g}"


def epochs_table(key: str, members: Sequence[RunView], rows: Rows, hr: str) -> Table:
    """A row an epoch of every run."""
    total = sum(len(view.run.line.hit_rates) for view in members)
    cells: list[list[str]] = []
    for view in members:
        for e in view.epochs[:rows.epochs - len(cells)]:
            cells.append([view.name, str(e.number), seconds(e.seconds), _exact(e.hit_rate),
                          _exact(e.ndcg), _exact(e.loss), rate(e.throughput),
                          rate(e.eval_throughput)])
        if len(cells) >= rows.epochs:
            break
    return table(f"{key}-epochs", "Every epoch", (
        "run", ">epoch", ">since run_start (s)", f">{hr}", f">{hr.replace('HR', 'NDCG')}", ">loss",
        ">training examples/s", ">evaluation pairs/s"), cells,
        left_out("epochs", len(cells), total, "the logs have them all"), True)
