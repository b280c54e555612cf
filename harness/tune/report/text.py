"""The result of a tuning as text, JSON and flag file; `page` makes the HTML page."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from compliance.report.tables import render_table
from harness.base.output_files import write_json, write_text
from harness.config.run_config import RunConfig
from harness.tune.confirmation import START, TUNED, Confirmation
from harness.tune.learning.race import MIN_RUNS, Racer, tied_with
from harness.tune.learning.record import OUTCOMES, TrialRecord
from harness.tune.learning.settings import DIMENSIONS, Settings, Space

REPORT_VERSION = 1
# Flags besides the tuned ones that a set of runs with these settings must repeat.
_REPEATED = (
    "device", "num_devices", "strategy", "engine", "runtime", "inter_op_threads", "eval_batch_size",
    "max_epochs", "tpu", "tpu_zone", "tpu_project", "division", "target",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a call of the tuner has found.

    Attributes:
      config: The settings of the tuning.
      space: The space that was searched.
      folder: The tuning's folder.
      given: The flags of the user.
      records: All trials.
      racers: The settings in the race, the best first.
      best: The winner; None if no settings have enough runs.
      confirmation: The confirmation; None if there was none.
      seconds: Time of all calls.
      new_trials: Trials of this call.
      confirmation_seconds: Estimated seconds of a confirmation.
    """

    config: RunConfig
    space: Space
    folder: Path
    given: dict[str, Any]
    records: Sequence[TrialRecord]
    racers: Sequence[Racer]
    best: Racer | None
    confirmation: Confirmation | None
    seconds: float
    new_trials: int
    confirmation_seconds: float

    @property
    def tied(self) -> list[Racer]:
        """The other settings that cannot be told apart from the best."""
        return tied_with(self.best, self.racers) if self.best else []

    @property
    def is_start_best(self) -> bool:
        """Whether the start settings won."""
        return self.best is not None and self.best.settings == self.space.start

    @property
    def word(self) -> str:
        """The verdict in one or two words."""
        if self.best is None:
            return "NO WINNER"
        if self.is_start_best:
            return "NOT BETTER"
        if self.confirmation is None:
            return "NOT CONFIRMED"
        return "CONFIRMED" if self.confirmation.is_confirmed else "NOT CONFIRMED"

    @property
    def verdict(self) -> str:
        """The verdict in one sentence."""
        if self.best is None:
            most = max((r.standing.runs for r in self.racers), default=0)
            return (f"NO WINNER: the race has at most {most} of {MIN_RUNS} runs for one setting; "
                    "continue with --resume")
        if self.is_start_best:
            return "NOT BETTER: no settings are shown to be faster than the start settings"
        if self.confirmation is None:
            minutes = math.ceil(self.confirmation_seconds / 60)
            return (f"NOT CONFIRMED: a confirmation takes about {minutes} min; continue with "
                    "--resume and more --minutes")
        if self.confirmation.violations:
            count = self.confirmation.violations
            return f"NOT CONFIRMED: {count} logs of the confirmation violate the rules"
        if not self.confirmation.is_confirmed:
            return f"NOT CONFIRMED: {self.confirmation.verdict}, tuned against start settings"
        value, low, high = self.confirmation.ratio or (math.nan, None, None)
        return (f"CONFIRMED: tuned settings take {value:.3f} of the time of the start settings "
                f"(95% {low:.3f} to {high:.3f})")


def racer_rows(outcome: Outcome) -> list[list[str]]:
    """Returns a row of text for each setting in the race, the best first."""
    rows = []
    for racer in outcome.racers:
        s, standing = racer.settings, racer.standing
        state = "slower" if racer.is_slower else "behind" if racer.is_out else ""
        if not state and outcome.best is not None and standing.runs:
            state = "tied"
        if outcome.best is not None and s == outcome.best.settings:
            state = "best"
        mean = standing.mean_epochs
        interval = "-" if standing.low is None else f"{standing.low:.3g} to {standing.high:.3g}"
        rows.append([
            str(s.batch_size), f"{s.learning_rate:g}", f"{s.beta1:g}", f"{s.beta2:g}",
            f"{s.epsilon:g}", s.optimizer, s.precision, str(s.intra_op_threads or "all"),
            f"{len(standing.epochs)}/{standing.runs}", "-" if mean is None else f"{mean:.2f}",
            f"{standing.seconds_per_epoch:.3g}",
            "-" if math.isinf(standing.objective) else f"{standing.objective:.3g}", interval, state,
        ])  # fmt: skip
    return rows


COLUMNS = ("batch", "lr", "beta1", "beta2", "epsilon", "optimizer", "precision", "threads",
           "converged", "epochs", "s/epoch", "seconds", "95%", "")  # fmt: skip


def summary_text(outcome: Outcome) -> str:
    """Returns the table of the race and the answers of the confirmation."""
    lines = []
    counts = {name: sum(r.outcome == name for r in outcome.records) for name in OUTCOMES}
    parts = ", ".join(f"{count} {name.replace('_', ' ')}"
                      for name, count in counts.items() if count)
    lines.append(f"trials   {len(outcome.records)} ({parts}) in {outcome.seconds / 60:.1f} min, "
                 f"{outcome.new_trials} in this call")
    if outcome.racers:
        rows = racer_rows(outcome)
        # On the console only the columns in which the settings differ; the page has all.
        kept = [i for i in range(len(COLUMNS))
                if i > 7 or i < 2 or len({row[i] for row in rows}) > 1]
        lines += ["", render_table([COLUMNS[i] for i in kept],
                                   [[row[i] for i in kept] for row in rows], "table",
                                   "r" * len(kept)), ""]
        lines.append("seconds: expected to a score, failed runs included; from runs that did not "
                     "choose the settings")
    if outcome.best is not None:
        if outcome.tied:
            count = len(outcome.tied)
            lines.append(f"tied: {count} other settings are not shown to be slower than the best"
                         + ("; those behind had the fewest runs" if any(
                             r.is_out for r in outcome.tied) else ""))
        flags = " ".join(f"--{k}={v}" for k, v in outcome.best.settings.as_flags().items())
        lines.append(f"best: {flags}")
    if outcome.confirmation is not None:
        lines += ["", *confirmation_lines(outcome.confirmation)]
    if outcome.best is not None:
        lines += ["", f"submit: ./run_and_time.sh --flagfile={outcome.folder / 'tuned.flags'}"]
    return "\n".join(lines)


def confirmation_lines(confirmation: Confirmation) -> list[str]:
    """Returns what the confirmation shows, a line for each answer."""
    lines = []
    for name in (START, TUNED):
        score = confirmation.scores[name]
        converged, runs = confirmation.converged[name]
        text = "no score" if score is None else f"score {score:.3f} s"
        lines.append(f"{name + ' settings':<15}: {text}, {converged} of {runs} runs converged")
    lines.append(f"compare        : {confirmation.sentence} (A start, B tuned)")
    verdict, detail = confirmation.convergence
    lines.append(f"convergence    : {verdict}" + (f", {detail}" if detail else ""))
    return lines


def flag_file(outcome: Outcome) -> str:
    """Returns the tuned settings as a flag file for a set of runs."""
    assert outcome.best is not None
    settings = outcome.best.settings
    lines = [
        f"# {outcome.config.track_name} on {outcome.config.system}, by --tune: {outcome.word}.",
        "# A submission: ./run_and_time.sh --flagfile=THIS_FILE",
        f"--track={outcome.config.track_ref}",
    ]
    for name in _REPEATED:
        if outcome.given.get(name) is not None:
            lines.append(f"--{name}={outcome.given[name]}")
    lines += [f"--{name}={value}" for name, value in settings.as_flags().items()]
    return "\n".join(lines) + "\n"


def report_json(outcome: Outcome) -> dict[str, Any]:
    """Returns the report's JSON values."""
    def racer(one: Racer) -> dict[str, Any]:
        standing = dataclasses.asdict(one.standing)
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v
                  for k, v in standing.items()}
        return {"settings": dataclasses.asdict(one.settings), "out": one.is_out,
                "slower": one.is_slower, **finite}

    return {
        "schema_version": REPORT_VERSION,
        "kind": "tuning",
        "track": outcome.config.track_name,
        "system": outcome.config.system,
        "verdict": outcome.verdict,
        "confirmed": outcome.word == "CONFIRMED",
        "start": dataclasses.asdict(outcome.space.start),
        "best": dataclasses.asdict(outcome.best.settings) if outcome.best else None,
        "tied": [dataclasses.asdict(r.settings) for r in outcome.tied],
        "race": [racer(r) for r in outcome.racers],
        "trials": {name: sum(r.outcome == name for r in outcome.records) for name in OUTCOMES},
        "searched": outcome.space.free,
        "refused_batch_sizes": [list(pair) for pair in outcome.space.refused],
        "seconds": outcome.seconds,
        "confirmation": outcome.confirmation.as_json(outcome.folder)
        if outcome.confirmation else None,
    }


def write_reports(outcome: Outcome) -> str:
    """Writes report.txt, report.json, report.html and the flag file.

    Returns:
      The text of the report, without the verdict.
    """
    from harness.tune.report.page import page  # late: matplotlib is slow to import

    text = summary_text(outcome)
    write_text(outcome.folder / "report.txt", f"{text}\n{outcome.verdict}\n")
    write_json(outcome.folder / "report.json", report_json(outcome))
    if outcome.best is not None:
        write_text(outcome.folder / "tuned.flags", flag_file(outcome))
    write_text(outcome.folder / "report.html", page(outcome))
    return text


def settings_text(settings: Settings) -> str:
    """Returns all settings in one line, for a tooltip."""
    values = dataclasses.asdict(settings)
    return ", ".join(f"{name} {'all' if values[name] is None else values[name]}"
                     for name in DIMENSIONS)
