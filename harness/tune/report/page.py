"""The HTML page of a tuning."""

from __future__ import annotations

import math
from typing import Any

from compliance.report.html.figures import figure_block
from compliance.report.html.page import document_page
from compliance.report.html.tables import HtmlTable, make_table
from harness.tune.confirmation import START, TUNED
from harness.tune.learning.models import SecondsModel, observed_epochs
from harness.tune.learning.proposals import study_of
from harness.tune.report import plots
from harness.tune.report.text import COLUMNS, Outcome, confirmation_lines, racer_rows

# With fewer trials an importance is noise.
_MIN_TRIALS_FOR_IMPORTANCE = 20
_BADGES = {"CONFIRMED": "pass", "NOT CONFIRMED": "inconclusive", "NOT BETTER": "inconclusive",
           "NO WINNER": "inconclusive"}
_METHOD = (
    "Epochs to the target and seconds per epoch are modelled apart. The search tries each setting "
    "once; trials that cannot be the best stop early. The race repeats the best settings with new "
    "seeds, and counts only these runs; a setting leaves when it falls behind. The expected "
    "seconds are those of a scored set: they include the chance that runs do not converge. The "
    "confirmation compares complete runs with seeds of their own.")


def importance(outcome: Outcome) -> dict[str, float]:
    """Returns the importance of each searched setting by Optuna's PED-ANOVA; empty if unknown.

    Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
    Importance in Arbitrary Subspaces": here, what distinguishes the fastest quarter of the
    trials.
    """
    import optuna

    target = outcome.config.target
    shown = [r for r in outcome.records if observed_epochs(r, target) is not None]
    if len(shown) < _MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    study = study_of(outcome.space, shown, target)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    searched = {n: float(x) for n, x in shares.items() if n in outcome.space.free}
    total = sum(searched.values())
    return {n: x / total for n, x in searched.items()} if total > 0 else {}


def page(outcome: Outcome) -> str:
    """Returns the page: verdict, race, confirmation, plots, every trial."""
    command = f"python -m harness --tune --track={outcome.config.track_name}"
    word, _, sentence = outcome.verdict.partition(": ")
    return document_page(
        title=f"{word}: tuning of {outcome.config.track_name}", kind="tuning", command=command,
        badge=(_BADGES[outcome.word], word), heading=f"Settings for {outcome.config.track_name}",
        lead=sentence, tiles=_tiles(outcome), method=_METHOD, sections=_sections(outcome),
    )  # fmt: skip


def _tiles(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Returns (name, value, remark) of the most important figures."""
    tiles = [("Trials", str(len(outcome.records)), f"{outcome.seconds / 60:.0f} min in all calls")]
    if outcome.best is not None:
        standing = outcome.best.standing
        interval = "" if standing.low is None else f"95%: {standing.low:.3g} to {standing.high:.3g}"
        tiles += [
            ("Expected seconds", f"{standing.objective:.3g} s", interval),
            ("Epochs, mean", f"{standing.mean_epochs:.2f}",
             f"{len(standing.epochs)} of {standing.runs} runs converged"),
            ("Seconds per epoch", f"{standing.seconds_per_epoch:.3g}", ""),
            ("Tied", str(len(outcome.tied)), "other settings, not shown to be slower"),
        ]
    if outcome.confirmation is not None and outcome.confirmation.ratio is not None:
        value, low, high = outcome.confirmation.ratio
        remark = "" if low is None else f"95%: {low:.3f} to {high:.3f}"
        tiles.append(("Tuned over start, time", f"{value:.3f}", remark))
    return tiles


def _sections(outcome: Outcome) -> list[dict[str, Any]]:
    """Returns the sections of the page: heading, sentences, figures, tables."""
    sections = []
    if outcome.racers:
        caption = "Settings in the race, the best first; seconds are expected seconds to a score"
        sections.append(_section("race", "Race", tables=[
            make_table("racers", caption, _header(), racer_rows(outcome))]))
    if outcome.confirmation is not None:
        lines = confirmation_lines(outcome.confirmation)
        folders = [f"{name}: {outcome.confirmation.folders[name].relative_to(outcome.folder)}"
                   for name in (START, TUNED)]
        sections.append(_section("confirmation", "Confirmation", notes=[*lines, *folders]))
    if any(observed_epochs(r, outcome.config.target) is not None for r in outcome.records):
        sections.append(_section("plots", "Plots", figures=_figures(outcome)))
    notes = [reason for _, reason in outcome.space.refused]
    if notes:
        sections.append(_section("refused", "Batch sizes that were not tried", notes=notes))
    sections.append(_section("trials", "Trials", tables=[_trial_table(outcome)]))
    return sections


def _section(key: str, heading: str, **parts: Any) -> dict[str, Any]:
    return {"id": key, "heading": heading, "notes": [], "figures": [], "tables": [], **parts}


def _header() -> list[str]:
    texts = ("optimizer", "precision", "threads", "95%", "", "converged")
    return [name if name in texts else f">{name}" for name in COLUMNS]


def _figures(outcome: Outcome) -> list[dict[str, Any]]:
    """Returns all figures of the trials."""
    blocks = []
    shares = importance(outcome)
    if shares:
        blocks.append(figure_block(
            "importance", "Importance of the settings",
            "By Optuna's PED-ANOVA: which settings distinguish the fastest quarter of the trials.",
            plots.plot_importance(shares)))
    blocks.append(figure_block(
        "frontier-figure", "Epochs against seconds per epoch",
        "Grey lines join points of equal time. The frontier joins trials that no other trial beats "
        "in both.", plots.plot_frontier(outcome)))
    for name in outcome.space.free:
        if name == "intra_op_threads":
            continue
        blocks.append(figure_block(
            f"figure-{name}", f"Time to the target by {name}",
            "Expected seconds of one run of each trial; triangles: at least.",
            plots.plot_setting(outcome, name)))
    blocks.append(figure_block("curves-figure", "Hit rate of every trial",
                               "The dashed line is the target.", plots.plot_hit_rates(outcome)))
    return blocks


def _trial_table(outcome: Outcome) -> HtmlTable:
    """Returns a table of every trial."""
    seconds = SecondsModel(outcome.records)
    rows = []
    for number, r in enumerate(outcome.records, 1):
        s = r.settings
        measured = f"{sum(r.seconds) / len(r.seconds):.3g}" if r.seconds else "-"
        expected = observed_epochs(r, outcome.config.target)
        time = math.nan if expected is None else (
            seconds.fixed_seconds + expected * seconds.seconds_per_epoch(s))
        rows.append([
            str(number), r.phase, str(s.batch_size), f"{s.learning_rate:g}", f"{s.beta1:g}",
            f"{s.beta2:g}", f"{s.epsilon:g}", s.optimizer, s.precision,
            str(s.intra_op_threads or "all"), str(len(r.hit_rates)),
            f"{max(r.hit_rates):.4f}" if r.hit_rates else "-", measured,
            "-" if math.isnan(time) else f"{time:.3g}", r.outcome.replace("_", " "), str(r.seed),
        ])  # fmt: skip
    return make_table("all-trials", "Every trial", (
        ">trial", "phase", ">batch", ">lr", ">beta1", ">beta2", ">epsilon", "optimizer",
        "precision", "threads", ">epochs", ">best HR", ">s/epoch", ">seconds", "outcome", ">seed",
    ), rows, folded=True)  # fmt: skip
