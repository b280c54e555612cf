"""The parent process: one set of runs, from the flags to the verdict.

Prepares the data, starts a fresh process for each trial, shows what they do and
has their logs judged. It never imports TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Mapping

from harness.base import exit_codes, machine, page_cache
from harness.base.console import Console
from harness.base.seeds import trial_seed
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.run_config import ConfigError, RunConfig, make_config
from harness.config.trial_spec import TrialSpec
from harness.devices import tf_config, tpu
from harness.inputs import batch_input
from harness.inputs.prepare_data import _progress, prepare_data, sizes_of_track
from harness.launcher import worker_launcher
from harness.launcher.trial_view import _TrialView
from harness.launcher.verdict import judge, write_report
from harness.processes.trial_process import Interrupts, TrialEnd, run_trial
from harness.results.result_tree import ResultTree, SetState, TreeError
from reference_model.base.errors import DataError
from reference_model.data.split_file import CacheHeader


def run(flags: Mapping[str, Any]) -> int:
    """Runs the set that the flags describe; returns the exit code."""
    try:
        console = Console(quiet=bool(flags.get("quiet")))
        with Interrupts() as interrupts:
            try:
                config = make_config(flags)
                return _run_set(config, flags.get("num_runs") is not None, console, interrupts)
            except KeyboardInterrupt:
                console.verdict("INTERRUPTED before a run was under way; nothing was lost")
                return exit_codes.INTERRUPTED
    except (tf_config.ClusterError, ConfigError, DataError, EngineError, TreeError) as error:
        return _error(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _error(f"{where}{error.strerror or error}")


def _error(message: str) -> int:
    print(f"neumf-bench: {' '.join(message.split())}", file=sys.stderr)
    return exit_codes.ERROR


def _run_set(
    config: RunConfig, num_runs_given: bool, console: Console, interrupts: Interrupts
) -> int:
    if not config.prepare_only or config.input == "shards":
        check_engine_name(config.engine)
    members = tf_config.for_run(config)
    if config.device == "tpu" and not config.prepare_only:
        tpu.probe(config)
    _say_settings(console, config)
    header = sizes_of_track(config) if config.synthetic_batches else prepare_data(config, console)
    batch_input.prepare(config, header, _progress(console))
    if config.prepare_only:
        console.verdict(
            f"prepared {config.track_name}: {header.num_users} users, {header.num_items} "
            f"items, {header.num_positives} positives in {config.data_url or config.data_dir}"
        )
        return exit_codes.OK
    _require_caches(config)
    if members is not None:
        tf_config.check_port(members)
        if not members.is_chief:
            try:
                return worker_launcher.serve(config, members, header, console, interrupts)
            finally:
                batch_input.sweep(config)
        if members.num_workers > 1:
            console.note(f"cluster  {members.num_workers} workers; this is {members.name(0)}")
    tree = ResultTree(config.results_dir, config.system, config.benchmark)
    tree.lock()
    try:
        state = tree.begin(config, num_runs_given)
        description = machine.describe(
            config.system, config.org, config.division, config.device, tree.root,
            nodes=1 if members is None else members.num_nodes,
        )
        machine.write_json(tree.root / "system.json", description)
        try:
            end = _run_trials(config, tree, state, header, console, interrupts)
        except KeyboardInterrupt:  # between two runs
            return _say_interrupted(console, tree, state)
        if end is not None and end.reason == "interrupted":
            return _say_interrupted(console, tree, state)
        if end is not None and end.usage:
            tree.forget(state)
            raise ConfigError(end.message)
        return _judge(config, tree, state, end, console)
    finally:
        batch_input.sweep(config)
        tree.unlock()


# -- before the first trial ---------------------------------------------------


def _require_caches(config: RunConfig) -> None:
    """With --clear_caches=require, finds out before anything is made."""
    if config.clear_caches == "require":
        cleared = page_cache.clear("require")
        if not cleared.done:
            raise ConfigError(
                f"--clear_caches=require: the system's caches cannot be cleared "
                f"({cleared.reason}); run as root, or use --clear_caches=auto"
            )


def _say_settings(console: Console, config: RunConfig) -> None:
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


def _run_trials(
    config: RunConfig,
    tree: ResultTree,
    state: SetState,
    header: CacheHeader,
    console: Console,
    interrupts: Interrupts,
) -> TrialEnd | None:
    """Runs what the set lacks; returns the first trial that made no result."""
    used = set(state.seeds)
    missing = sorted(set(range(state.num_runs)) - set(tree.finished_runs()))
    for number in missing:
        place = missing.index(number), len(missing)
        if interrupts.requested:
            raise KeyboardInterrupt
        with interrupts.held():
            end = _run_one(config, tree, state, number, place, used, header, console, interrupts)
        if not end.placed:
            return end
    return None


def _run_one(
    config: RunConfig,
    tree: ResultTree,
    state: SetState,
    number: int,
    place: tuple[int, int],
    used: set[int],
    header: CacheHeader,
    console: Console,
    interrupts: Interrupts,
) -> TrialEnd:
    """One attempt at one run, from its place in the ledger to its end there.

    place: (how many runs this process has made before, how many it means to make).
    """
    seed = trial_seed(config.base_seed, number, used if config.base_seed is None else set())
    used.add(seed)
    attempt, log = tree.new_attempt(state, number)
    link = tree.attempts.link(state.set_id, number)
    spec = TrialSpec(
        config=config,
        run=number,
        seed=seed,
        attempt=str(attempt),
        result=str(tree.result_path(number)),
        num_users=header.num_users,
        num_items=header.num_items,
        num_positives=header.num_positives,
        link=link.as_value(),
        split_digest=header.digest,
        ordinal=place[0],
        more=place[0] + 1 < place[1],
    )
    tree.attempts.start(link, seed, attempt.name)
    view = _TrialView(console, spec, state.num_runs)
    end = run_trial(spec, log, interrupts, view.show, tree.lock_descriptor)
    console.keep()
    tree.attempts.end(state.set_id, end.message, end.placed, end.outcome)
    if not end.placed and end.reason != "interrupted" and not end.usage:
        console.line(f"run {number + 1}/{state.num_runs}: {end.reason}: {end.message}")
        console.line(f"full output: {log}")
    return end


# -- after the last -----------------------------------------------------------


def _say_interrupted(console: Console, tree: ResultTree, state: SetState) -> int:
    done = len(tree.finished_runs())
    console.line("go on with the same flags and --resume")
    console.verdict(
        f"INTERRUPTED: {done} of {state.num_runs} runs are complete; logs in {tree.root}"
    )
    return exit_codes.INTERRUPTED


def _from_here(path: Path) -> Path:
    """The path as one would type it: relative where it lies under the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _judge(
    config: RunConfig, tree: ResultTree, state: SetState, end: TrialEnd | None, console: Console
) -> int:
    """Checks and scores the set, prints the table, writes the report."""
    result = judge(config, tree, state.num_runs, end)
    if result.rows:
        console.line("")
        console.line(result.table)
    for line in result.lines:
        console.line(line)
    report = write_report(config, tree, state, result)
    console.verdict(f"{result.verdict}; report: {_from_here(report)}")
    return exit_codes.FAIL if result.failed else exit_codes.OK
