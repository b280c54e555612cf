"""The parent process: one set of runs, from the flags to the verdict.

It prepares the data, starts a new process for each trial, shows its progress, and checks
and scores the logs. It never imports TensorFlow.
"""

from __future__ import annotations

import errno
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from compliance.results import scoring
from harness.base import exit_codes, machine, output_files, page_cache
from harness.base.console import Console
from harness.base.error_text import one_line
from harness.base.seeds import choose_trial_seed
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.run_config import ConfigError, RunConfig, make_config
from harness.config.trial_spec import TrialSpec
from harness.devices import tf_config, tpu
from harness.devices.runtime import check_runtime
from harness.inputs import batch_input, export_programs
from harness.inputs.prepare_data import console_progress, header_from_track, prepare_data
from harness.launcher import worker_launcher
from harness.launcher.stage_clock import StageClock
from harness.launcher.trial_view import OwnRun, TrialView
from harness.launcher.verdict import conclude_set
from harness.processes.trial_process import Interrupts, TrialEnd, run_trial
from harness.results.experiments import Experiment
from harness.results.result_tree import ResultTree
from harness.results.set_folder import SYSTEM_FILE, SetState, TreeError
from reference_model.base.errors import DataError
from reference_model.data.split_file import SplitHeader


@dataclass(frozen=True)
class _SetOfRuns:
    """A set in progress.

    Attributes:
      config: The settings of the set.
      tree: The tree for the set's results, locked by this process.
      state: The set's identifier, number of runs and seeds.
      header: Header of the dataset.
      console: Shows the progress.
      interrupts: Handles this process's signals.
      num_nodes: Number of machines that train.
    """

    config: RunConfig
    tree: ResultTree | Experiment
    state: SetState
    header: SplitHeader
    console: Console
    interrupts: Interrupts
    num_nodes: int


def run(flags: Mapping[str, Any]) -> int:
    """Runs the set that the flags describe.

    Args:
      flags: Values by flag name, None if a flag was not given.

    Returns:
      The exit code.
    """
    try:
        console = Console(quiet=bool(flags.get("quiet")))
        with Interrupts() as interrupts:
            try:
                config = make_config(flags)
                return run_config(config, flags.get("num_runs") is not None, console, interrupts)
            except KeyboardInterrupt:
                console.verdict("INTERRUPTED before a run started; nothing was lost")
                return exit_codes.INTERRUPTED
    except (tf_config.ClusterError, ConfigError, DataError, EngineError, TreeError) as error:
        return _print_error(str(error))
    except OSError as error:
        where = error.filename or flags.get("results_dir") or "the results"
        todo = "; free space, or use another --results_dir" if error.errno == errno.ENOSPC else ""
        return _print_error(f"{where}: {error.strerror or error}{todo}")


def _print_error(message: str) -> int:
    """Prints a usage or internal error as one line; returns the exit code."""
    print(f"neumf-bench: {one_line(message)}", file=sys.stderr)
    return exit_codes.ERROR


def run_config(
    config: RunConfig, num_runs_given: bool, console: Console, interrupts: Interrupts,
    experiments_dir: Path | None = None,
) -> int:  # fmt: skip
    """Prepares the data, then runs the set or joins the chief's.

    Args:
      config: The settings of the set.
      num_runs_given: Whether the user chose the number of runs.
      console: Shows the progress.
      interrupts: Handles this process's signals.
      experiments_dir: The folder in which an experiment makes its folder; None for that of the
        benchmark.

    Returns:
      The exit code.

    Raises:
      ClusterError, ConfigError, DataError, EngineError, TreeError: The set cannot be run; the
        message is one line for the user.
      KeyboardInterrupt: A signal was received before a run started.
    """
    # All cheap checks come before the data is prepared.
    if not config.prepare_only or config.input == "shards":
        check_engine_name(config.engine, config.programs is None)
    cluster = tf_config.read_cluster(config)
    check_runtime(config, cluster is not None)
    if config.device == "tpu" and not config.prepare_only:
        tpu.check_addresses(config)
    _print_settings(console, config)
    header = (
        header_from_track(config) if config.synthetic_batches else prepare_data(config, console)
    )
    if config.export is not None:
        digest = export_programs.run(config, header, console_progress(console))
        console.verdict(f"exported the programs to {config.export}; digest {digest[:16]}")
        return exit_codes.OK
    batch_input.prepare_shards(config, header, console_progress(console))
    if config.prepare_only:
        console.verdict(
            f"prepared {config.track_name}: {header.num_users} users, {header.num_items} "
            f"items, {header.num_positives} positives in {config.data_url or config.data_dir}"
        )
        return exit_codes.OK
    _require_clearable_caches(config)
    if cluster is not None:
        tf_config.check_port(cluster)
        if not cluster.is_chief:
            try:
                return worker_launcher.serve_trials(config, cluster, header, console, interrupts)
            finally:
                batch_input.remove_stale_shards(config)
        if cluster.num_workers > 1:
            console.note(f"cluster  {cluster.num_workers} workers; this is {cluster.name(0)}")
    tree: Experiment | ResultTree = (
        Experiment(config, experiments_dir) if config.is_experiment else ResultTree(config)
    )
    tree.lock()
    try:
        with interrupts.deferred():
            state = tree.begin_set(
                config, num_runs_given, lambda state: conclude_set(config, tree, state)
            )
        if interrupts.requested:
            raise KeyboardInterrupt
        num_nodes = 1 if cluster is None else cluster.num_nodes
        runs = _SetOfRuns(config, tree, state, header, console, interrupts, num_nodes)
        return _run_in_locked_tree(runs)
    finally:
        batch_input.remove_stale_shards(config)
        tree.unlock()


def _run_in_locked_tree(runs: _SetOfRuns) -> int:
    """Runs the trials and reports the verdict; returns the exit code."""
    _announce_displacement(runs)
    try:
        end = _run_missing_trials(runs)
    except KeyboardInterrupt:  # between two runs
        return _report_interruption(runs)
    if end is not None and end.reason == "interrupted":
        return _report_interruption(runs)
    # The trial process rejected a flag: discard the set as if it had never begun.
    if end is not None and end.is_usage_error:
        runs.tree.discard_set(runs.state)
        raise ConfigError(end.message)
    if end is not None and not runs.tree.has_started:
        runs.console.verdict(f"FAIL: {end.reason} before a run started; no set was changed")
        return exit_codes.FAIL
    return _report_verdict(runs, end)


def _announce_displacement(runs: _SetOfRuns) -> None:
    """Announces, before the first run, the finished set that will be moved, with its score."""
    tree = runs.tree
    if not isinstance(tree, ResultTree) or tree.results == tree.published:
        return
    set_id = tree.published_id()
    if set_id is None:
        return
    seconds = scoring.score_folder(tree.published).result.seconds
    score = "no score" if seconds is None else f"{seconds:.3f} s"
    runs.console.note(
        f"note     {_relative_to_current_folder(tree.published)} contains a set ({score}); when "
        "the new set is complete and scored, the old one moves to "
        f"{_relative_to_current_folder(tree.aside_folder(set_id))}"
    )


# -- before the first trial ---------------------------------------------------


def _require_clearable_caches(config: RunConfig) -> None:
    """Raises ConfigError if --clear_caches=require is not possible, before a set begins."""
    if config.clear_caches == "require":
        cleared = page_cache.clear("require")
        if not cleared.done:
            raise ConfigError(
                f"--clear_caches=require: the system's caches cannot be cleared "
                f"({cleared.reason}); run as root, or use --clear_caches=auto"
            )


def _print_settings(console: Console, config: RunConfig) -> None:
    """Prints the main settings, so that the user can check them before a long run."""
    track = config.track
    top_k = track.evaluation.top_k
    target = "no target" if config.target is None else f"HR@{top_k} {config.target}"
    console.note(f"track    {config.track_name}, {config.division} division")
    runs = "1 run" if config.num_runs == 1 else f"{config.num_runs} runs"
    console.note(f"goal     {target} within {config.max_epochs} epochs, {runs}")
    console.note(f"system   {config.system}")
    console.note(
        f"engine   {config.engine}, device {config.device}, {config.precision}, "
        f"batch {config.batch_size}"
    )
    console.note(
        f"optim.   {config.optimizer}, lr {config.learning_rate:g}, beta1 {config.beta1:g}, "
        f"beta2 {config.beta2:g}, eps {config.epsilon:g}"
    )
    for note in config.notes:
        console.note(f"note     {note}")


# -- the trials ---------------------------------------------------------------


def _run_missing_trials(runs: _SetOfRuns) -> TrialEnd | None:
    """Runs the set's missing trials; returns the end of the first one without a result."""
    used_seeds = set(runs.state.seeds)
    missing = runs.state.missing_runs
    for trial_index, run_number in enumerate(missing):
        if runs.interrupts.requested:
            raise KeyboardInterrupt
        is_last = trial_index + 1 == len(missing)
        # An attempt must not be interrupted between its first and its last ledger entry.
        with runs.interrupts.deferred():
            end = _run_attempt(runs, run_number, trial_index, is_last, used_seeds)
        if not end.is_result:
            return end
    return None


def _run_attempt(
    runs: _SetOfRuns, run_number: int, trial_index: int, is_last: bool, used_seeds: set[int]
) -> TrialEnd:
    """Runs one attempt at one run, from its first ledger entry to its last.

    Args:
      runs: The set.
      run_number: Number of the run in the set, from 0.
      trial_index: Number of trials that this process has started before.
      is_last: Whether this is the last missing run.
      used_seeds: Seeds that must not be drawn again from the operating system's generator;
        the attempt's own seed is added.
    """
    config, tree, state, header = runs.config, runs.tree, runs.state, runs.header
    # A seed derived from --seed must be the same in a second attempt at a run.
    excluded_seeds = used_seeds if config.base_seed is None else set()
    seed = choose_trial_seed(config.base_seed, run_number, excluded_seeds)
    used_seeds.add(seed)
    attempt, console_log = tree.new_attempt(state, run_number)
    record = tree.attempts.next_record(state.set_id, run_number)
    spec = TrialSpec(
        config=config,
        run=run_number,
        seed=seed,
        attempt_log=str(attempt),
        result_log=str(tree.result_path(run_number)),
        num_users=header.num_users,
        num_items=header.num_items,
        num_positives=header.num_positives,
        attempt_record=record.as_value(),
        split_digest=header.digest,
        trial_index=trial_index,
        has_next_run=not is_last,
    )

    def enter_attempt() -> None:
        """Records the attempt in the ledger before its log begins, so that none is omitted."""
        if not tree.has_started:
            tree.start()
            _describe_system(runs)
        tree.attempts.record_start(record, seed, attempt.name)

    name = f"run {run_number + 1}/{state.num_runs}"
    # The settings on which the durations of compilation and loading depend.
    settings = f"{config.track.name} {config.engine} {config.device} batch {config.batch_size}"
    clock = StageClock(runs.console, Path(config.data_dir), settings)
    own_run = OwnRun(run_number, state.num_runs, seed)
    view = TrialView(runs.console, config, name, own_run, clock)
    end = run_trial(
        spec, console_log, runs.interrupts, view.show, enter_attempt, tree.lock_descriptor
    )
    clock.save()
    runs.console.keep_progress_line()
    if end.is_attempt:
        tree.attempts.record_end(state.set_id, end.message, end.is_result, end.outcome)
    elif end.is_usage_error or end.reason == "interrupted":
        console_log.unlink(missing_ok=True)  # it contains no more than the message
    if not end.is_result and end.reason != "interrupted" and not end.is_usage_error:
        runs.console.line(f"{name}: {end.reason}: {end.message}")
        runs.console.line(f"full output: {console_log}")
    return end


def _describe_system(runs: _SetOfRuns) -> None:
    """Writes the system description beside the set, and at the root if none exists there.

    When a set of the closed division becomes a result, its description moves with it.
    """
    config, tree = runs.config, runs.tree
    description = machine.describe(
        config.system, config.org, config.division, config.device, tree.root,
        nodes=runs.num_nodes,
    )  # fmt: skip
    for path in (tree.system_file, tree.root / SYSTEM_FILE):
        if path == tree.system_file or not path.exists():
            output_files.write_json(path, description)


# -- after the last trial -----------------------------------------------------


def _report_interruption(runs: _SetOfRuns) -> int:
    """Reports how to resume an interrupted set; returns the exit code."""
    tree, num_done = runs.tree, len(runs.state.finished)
    if tree.has_started:
        num_done = len(tree.finished_runs())
    elif not num_done:
        runs.console.verdict("INTERRUPTED before a run started; nothing was lost")
        return exit_codes.INTERRUPTED
    runs.console.line("continue with the same flags and --resume")
    runs.console.verdict(
        f"INTERRUPTED: {num_done} of {runs.state.num_runs} runs complete; "
        f"logs in {tree.attempts_dir}"
    )
    return exit_codes.INTERRUPTED


def _report_verdict(runs: _SetOfRuns, end: TrialEnd | None) -> int:
    """Checks and scores the set, prints the table, writes the report; returns the exit code."""
    console = runs.console
    with runs.interrupts.deferred():  # moving a set must not be interrupted
        result = conclude_set(runs.config, runs.tree, runs.state, end)
    if result.rows:
        console.line("")
        console.line(result.table)
    for line in result.lines:
        console.line(line)
    _print_viewers(runs.config, console)
    report = runs.tree.report_stem.with_suffix(".txt")
    console.verdict(f"{result.verdict}; report: {_relative_to_current_folder(report)}")
    return exit_codes.FAIL if result.failed else exit_codes.OK


# (field of RunConfig, package, command) for the output of a flag.
_VIEWERS = (
    ("tensorboard_dir", "tensorboard", "tensorboard --logdir"),
    ("profile_dir", "xprof", "xprof --logdir"),
)


def _print_viewers(config: RunConfig, console: Console) -> None:
    """Prints the commands that show the scalars and the profile of the set, if it wrote any."""
    for field, package, command in _VIEWERS:
        folder = getattr(config, field)
        if folder is not None and Path(folder).is_dir():
            shown = shlex.quote(str(_relative_to_current_folder(Path(folder))))
            console.note(f"--{field}: look at it by {command} {shown}  (pip install {package})")


def _relative_to_current_folder(path: Path) -> Path:
    """Returns the path relative to the current folder if it is inside it, else unchanged."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
