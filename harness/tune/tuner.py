"""The tuner's loop: search, race, and the time for both."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence

from harness.base.clock import Stopwatch
from harness.base.console import Console, format_seconds
from harness.base.seeds import choose_trial_seed
from harness.config.flag_values import ConfigError
from harness.config.run_config import RunConfig
from harness.processes.trial_process import Interrupts
from harness.tune.learning.models import SecondsModel
from harness.tune.learning.objective import PRIOR_SPREAD, Standing
from harness.tune.learning.proposals import best_prediction, log_times, next_settings
from harness.tune.learning.race import Racer, choose_racers, next_racer, standings
from harness.tune.learning.record import CONVERGED, FAILED, STOPPED, TrialRecord
from harness.tune.learning.settings import Settings, Space
from harness.tune.learning.stopping import MARGIN
from harness.tune.runner import OutOfTime, Plan, TrialRunner
from harness.tune.study import TuningFolder
from harness.tune.worker import MAX_ENGINES
from reference_model.data.split_file import SplitHeader

# Share of the time without the confirmation that the search gets; the race gets the rest.
SEARCH_SHARE = 0.5
# If the confirmation needs more than this share of a call's time, it is left out, and the call
# says so.
MAX_CONFIRMATION_SHARE = 0.7
# The estimate of the confirmation's time is multiplied by this.
_RESERVE_FACTOR = 1.25
# Seconds in which a run starts, before a worker has started and compiled.
_START_SECONDS = 15.0
# After a decided race, so many more trials of the search come before the racers are chosen again.
_TRIALS_BETWEEN_RACES = 6
# The tuner gives up after so many failed trials without any success.
_MAX_FAILURES = 3
# Seeds of trials begin at this run number if --seed is given, so that they differ from those of
# sets.
_FIRST_RUN = 1_000_000


@dataclass
class Limits:
    """What one call may spend.

    Attributes:
      seconds: Time of the call, confirmation included.
      max_trials: Trials of the call; None for no limit.
      confirmation_runs: Runs of each set of the confirmation.
    """

    seconds: float
    max_trials: int | None
    confirmation_runs: int


class Tuner:
    """Runs the trials of one call.

    Args:
      config: The settings of the tuning.
      header: Header of the dataset.
      space: The space that is searched.
      folder: The locked folder of the tuning.
      limits: What the call may spend.
      console: Shows the progress.
      interrupts: Handles this process's signals.
      lock_path: The lock of the machine's timings.

    Attributes:
      records: All finished trials, of earlier calls too.
    """

    def __init__(
        self,
        config: RunConfig,
        header: SplitHeader,
        space: Space,
        folder: TuningFolder,
        limits: Limits,
        console: Console,
        interrupts: Interrupts,
        lock_path: Path,
    ):
        self.config, self.space, self.folder, self.limits = config, space, folder, limits
        self._console, self._interrupts = console, interrupts
        self._runner = TrialRunner(
            config, header, lock_path, interrupts, self._is_over, self._show_epoch
        )
        self.records: list[TrialRecord] = folder.records()
        self._watch, self._booked = Stopwatch(), 0.0
        self._num_before = len(self.records)
        # Whether this call has raced, whether it must choose racers before the next run of the
        # race, and the trials of the search before that.
        self._has_raced, self._must_choose, self._extra_search = False, True, 0
        # The best prediction, and the number of trials that it is made from.
        self._prediction: tuple[Settings, float, float] | None = None
        self._num_predicted = 0
        self._is_reserve_noted = self._is_untimed_noted = False

    # -- time -------------------------------------------------------------------

    @property
    def seconds_left(self) -> float:
        """Seconds of the call that are left, confirmation included."""
        return self.limits.seconds - self._watch.seconds()

    @property
    def new_trials(self) -> int:
        """Trials of this call."""
        return len(self.records) - self._num_before

    def book_time(self) -> None:
        """Adds the time since the last call of this method to that of all calls."""
        now = self._watch.seconds()
        self.folder.add_seconds(now - self._booked)
        self._booked = now

    def confirmation_seconds(self) -> float:
        """Estimates the seconds of the confirmation from the trials so far; 0 without any."""
        seconds = SecondsModel(self.records)
        if not seconds.is_known:
            return 0.0
        first = self.space.start.learning_key
        start = [r for r in self.records if r.settings.learning_key == first and r.hit_rates]
        longest = [len(r.hit_rates) for r in start if r.outcome == CONVERGED] or [
            self.config.max_epochs]
        of_start = max(longest) * seconds.seconds_per_epoch(self.space.start)
        best = self.best_seconds() or of_start
        of_runs = 2 * (self._startup_seconds + seconds.fixed_seconds) + of_start + best
        return _RESERVE_FACTOR * self.limits.confirmation_runs * of_runs

    @property
    def has_time_to_confirm(self) -> bool:
        """Whether a call of this length has room for a confirmation."""
        return self.confirmation_seconds() <= MAX_CONFIRMATION_SHARE * self.limits.seconds

    @property
    def _startup_seconds(self) -> float:
        """Seconds in which a run starts: about those of a worker with its first programs."""
        return self._runner.start_seconds or _START_SECONDS

    def _search_seconds(self) -> float:
        """Seconds of the call before the confirmation."""
        reserve = self.confirmation_seconds() if self.has_time_to_confirm else 0.0
        return self.limits.seconds - reserve

    def _is_over(self) -> bool:
        return self._watch.seconds() >= self._search_seconds()

    def _share_spent(self) -> float:
        """The share of the call's time or trials that is spent, whichever is larger."""
        shares = [self._watch.seconds() / max(self._search_seconds(), 1e-9)]
        if self.limits.max_trials:
            shares.append(self.new_trials / self.limits.max_trials)
        return max(shares)

    # -- the loop ---------------------------------------------------------------

    def run(self) -> None:
        """Runs trials until the time is over, the trials are used up, or nothing is left to try.

        Raises:
          KeyboardInterrupt: A signal was received; finished trials are in the database.
          ConfigError: Every trial fails.
        """
        with self._runner:
            while self._share_spent() < 1:
                if self._interrupts.requested:
                    raise KeyboardInterrupt
                plan = self._next_plan()
                if plan is None:
                    return
                try:
                    record = self._runner.run(plan)
                except OutOfTime:
                    return
                finally:
                    self.book_time()
                self._add(record)

    def _add(self, record: TrialRecord) -> None:
        """Records a finished trial and shows it; raises ConfigError if the first fails."""
        if record.outcome == FAILED and not self.records:  # a device or an engine does not work
            raise ConfigError(f"--tune: the first trial failed: {record.message}")
        self.records.append(record)
        value = None
        if record.outcome == CONVERGED and record.seconds:
            value = math.exp(log_times([record], self.config.target)[0])
        with self._interrupts.deferred():
            self.folder.add(record, self.space, value)
        self._show_trial(record)
        if record.outcome == FAILED:
            self._handle_failure(record)

    def _handle_failure(self, record: TrialRecord) -> None:
        """Removes a batch size on which a trial failed; raises ConfigError if all trials fail."""
        self._console.line(f"trial {len(self.records)} failed: {record.message}")
        if all(r.outcome == FAILED for r in self.records[-_MAX_FAILURES:]) and (
            len(self.records) >= _MAX_FAILURES
        ):
            raise ConfigError(f"--tune: {_MAX_FAILURES} trials failed in a row: {record.message}")
        batch = record.settings.batch_size
        sizes = tuple(b for b in self.space.choices["batch_size"] if b != batch)
        if batch != self.space.start.batch_size and sizes:
            self._console.note(f"note     batch {batch} is not tried again")
            self.space.choices["batch_size"] = sizes

    def _next_plan(self) -> Plan | None:
        """Returns the next trial; None if nothing is left to try."""
        if not self._has_raced and self._share_spent() < SEARCH_SHARE:
            return self._search_plan() or self._race_plan()
        if self._extra_search:
            self._extra_search -= 1
            return self._search_plan() or self._race_plan()
        return self._race_plan()

    def _search_plan(self) -> Plan | None:
        """Returns a trial of the search; None if there are no settings left."""
        recent = self.records[self._num_before :][-4 * MAX_ENGINES :]
        settings = next_settings(
            self.space, self.records, self.config.target, len(self.records),
            {r.settings.engine_key for r in recent}, self._startup_seconds / 2,
        )  # fmt: skip
        return None if settings is None else self._plan(settings, "search")

    def _race_plan(self) -> Plan | None:
        """Returns a trial of the race; of the search if no racer exists or the race is decided."""
        if self._must_choose:
            self._choose_racers()
            self._has_raced, self._must_choose = True, False
        racers = self.racers()
        if not racers:  # no setting has reached the target
            self._must_choose = True
            return self._search_plan()
        if probe := self._probe(racers[0].settings):
            return probe
        settings = next_racer(racers)
        if settings is not None:
            return self._plan(settings, "race")
        self._extra_search, self._must_choose = _TRIALS_BETWEEN_RACES, True
        return self._search_plan()

    def _choose_racers(self) -> None:
        """Adds the best settings of the search to the racers; earlier racers stay."""
        known = {s.learning_key: s for s in self.folder.racers}
        for settings in choose_racers(self.records, self.config.target):
            known.setdefault(settings.learning_key, settings)
        if len(known) != len(self.folder.racers):
            self.folder.set_racers(list(known.values()))

    def _probe(self, settings: Settings) -> Plan | None:
        """Returns a trial that times a number of threads of the best settings; None if all are."""
        seconds = SecondsModel(self.records)
        for threads in self.space.choices["intra_op_threads"]:
            other = replace(settings, intra_op_threads=threads)
            failed = any(r.settings == other and r.phase == "probe" for r in self.records)
            if not seconds.is_timed(other) and not failed:
                return self._plan(other, "probe")
        return None

    def _plan(self, settings: Settings, phase: str) -> Plan:
        used = {r.seed for r in self.records}
        seed = choose_trial_seed(self.config.base_seed, _FIRST_RUN + len(self.records), used)
        seconds, best = SecondsModel(self.records), self.best_seconds()
        is_limited = phase == "search" and best is not None
        return Plan(
            settings, seed, phase,
            time_limit=MARGIN * best if is_limited and best is not None else None,
            curves=[r.hit_rates for r in self.records if r.outcome == CONVERGED],
            expected_seconds=seconds.seconds_per_epoch(settings),
            is_timed=seconds.is_timed(settings),
            fixed_seconds=seconds.fixed_seconds,
        )  # fmt: skip

    # -- what is known ------------------------------------------------------------

    def racers(self) -> list[Racer]:
        """Returns the settings in the race, the best first."""
        return standings(self.folder.racers, self.records, self.config.track)

    def best_seconds(self) -> float | None:
        """Returns the least predicted seconds of a run; None before a success."""
        if len(self.records) != self._num_predicted:
            self._prediction = best_prediction(self.records, self.config.target)
            self._num_predicted = len(self.records)
        return None if self._prediction is None else self._prediction[1]

    def best_text(self) -> str:
        """Returns the best so far with its uncertainty, in a few words."""
        racers = [r for r in self.racers() if r.standing.epochs]
        if self._has_raced and racers and racers[0].standing.runs > 1:
            return f"best {interval_text(racers[0].standing)}"
        best = self.best_seconds()
        if best is None or self._prediction is None:
            return "best: none yet"
        error = math.hypot(self._prediction[2], PRIOR_SPREAD)
        return f"best {best:.3g} s +-{100 * 1.96 * error:.0f}%"

    # -- progress -------------------------------------------------------------------

    def _show_epoch(self, plan: Plan, curve: Sequence[float]) -> None:
        self._console.progress(
            f"trial {len(self.records) + 1} {plan.phase} {short_text(plan.settings)}: "
            f"epoch {len(curve)} HR {curve[-1]:.4f}; {self._left_text()}",
            lasting=False,
        )

    def _show_trial(self, record: TrialRecord) -> None:
        ends = {CONVERGED: f"{len(record.hit_rates)} epochs",
                STOPPED: f"stopped after {len(record.hit_rates)}"}
        end = ends.get(record.outcome, record.outcome.replace("_", " "))
        self._console.progress(
            f"trial {len(self.records)} {record.phase} {short_text(record.settings)}: {end}; "
            f"{self.best_text()}; {self._left_text()}"
        )
        if record.hit_rates and not record.seconds and not self._is_untimed_noted:
            self._is_untimed_noted = True
            self._console.note(
                "note     another tuner times this machine; this one measures epochs"
            )
        self._note_reserve()

    def _note_reserve(self) -> None:
        """Says once what the confirmation takes of the call's time."""
        needed = self.confirmation_seconds()
        if self._is_reserve_noted or not needed:
            return
        # The best prediction, and the number of trials that it is made from.
        self._prediction: tuple[Settings, float, float] | None = None
        self._num_predicted = 0
        self._is_reserve_noted = True
        minutes = math.ceil(needed / 60)
        if self.has_time_to_confirm:
            self._console.note(f"note     the last {minutes} min are for the confirmation")
        else:
            more = math.ceil(needed / 60 / MAX_CONFIRMATION_SHARE)
            self._console.note(
                f"note     a confirmation takes about {minutes} min: too long for this call; "
                f"give --minutes={more}, now or with --resume"
            )

    def _left_text(self) -> str:
        return f"{format_seconds(max(self.seconds_left, 0))} left"


def short_text(settings: Settings) -> str:
    """Returns the settings that differ most between trials, for a line of progress."""
    text = f"b {settings.batch_size} lr {settings.learning_rate:g}"
    if settings.optimizer != "adam":
        text += f" {settings.optimizer}"
    if settings.precision != "float32":
        text += f" {settings.precision}"
    return text


def interval_text(standing: Standing) -> str:
    """Returns the expected seconds with their 95% interval."""
    if standing.low is None or standing.high is None:
        return f"{standing.objective:.3g} s"
    return f"{standing.objective:.3g} s ({standing.low:.3g} to {standing.high:.3g})"
