"""`python -m harness --tune`: from the flags to tuned settings, their confirmation, a report."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Mapping

from compliance.cli.requirements import install_command
from harness.base import exit_codes, machine
from harness.base.console import Console
from harness.base.error_text import one_line
from harness.base.system_files import available_memory
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.flag_values import ConfigError, default_data_dir
from harness.config.run_config import RunConfig, make_config
from harness.config.trial_spec import TrialSpec, engine_config
from harness.devices import tf_config
from harness.devices.runtime import check_runtime
from harness.inputs.prepare_data import prepare_data
from harness.processes.trial_process import Interrupts
from harness.results.set_folder import TreeError
from harness.tune import memory
from harness.tune.confirmation import Confirmation, confirm, confirmation_runs
from harness.tune.learning.race import winner
from harness.tune.learning.settings import DIMENSIONS, Space, make_space
from harness.tune.report.text import Outcome, write_reports
from harness.tune.study import TuningFolder, open_folder
from harness.tune.tuner import Limits, Tuner
from reference_model.base.errors import DataError
from reference_model.data.split_file import SplitHeader

DEFAULT_MINUTES = 30.0
# From this load per CPU on, other programs disturb the timing.
BUSY_LOAD = 0.5
# Flags that have no meaning for a tuner, or that only apply to one set of runs.
_REFUSED = (
    "export", "programs", "prepare_only", "overwrite", "profile_dir", "tensorboard_dir",
    "keep_checkpoint", "synthetic_batches",
)  # fmt: skip


def run(flags: Mapping[str, Any]) -> int:
    """Tunes; returns the exit code.

    Args:
      flags: Values by flag name, None if a flag was not given.
    """
    console = Console(quiet=bool(flags.get("quiet")))
    try:
        with Interrupts() as interrupts:
            try:
                return _tune(flags, console, interrupts)
            except KeyboardInterrupt:
                console.verdict("INTERRUPTED before a trial ended; nothing was lost")
                return exit_codes.INTERRUPTED
    except (tf_config.ClusterError, ConfigError, DataError, EngineError, TreeError) as error:
        message = str(error)
    except OSError as error:
        where = error.filename or flags.get("results_dir") or "the results"
        todo = "; free space, or use another --results_dir" if error.errno == errno.ENOSPC else ""
        message = f"{where}: {error.strerror or error}{todo}"
    print(f"neumf-bench: {one_line(message)}", file=sys.stderr)
    return exit_codes.ERROR


def _make_config(flags: Mapping[str, Any]) -> RunConfig:
    """Checks the flags; returns the settings, with the start settings of the search.

    Raises:
      ConfigError: A flag is invalid, or Optuna is missing.
    """
    for name in _REFUSED:
        if flags.get(name):
            raise ConfigError(f"--{name} cannot be combined with --tune; remove one of them")
    if (flags.get("input") or "generated") != "generated":
        raise ConfigError(f"--input={flags['input']} cannot be combined with --tune; remove it")
    minutes, max_trials = flags.get("minutes"), flags.get("max_trials")
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes={minutes:g}: use a number of minutes above 0")
    if max_trials is not None and max_trials < 1:
        raise ConfigError(f"--max_trials={max_trials}: use a whole number of at least 1")
    config = make_config(flags)
    if config.target is None:
        raise ConfigError(f"--tune: track {config.track_name} has no target to reach")
    if config.log_format != "mllog":
        raise ConfigError("--tune requires --log_format=mllog")
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(f"--tune requires Optuna: {install_command('tune')}")
    check_engine_name(config.engine, True)
    cluster = tf_config.read_cluster(config)
    if cluster is not None:
        raise ConfigError("--tune runs on one machine; unset TF_CONFIG")
    check_runtime(config, False)
    return config


def _tune(flags: Mapping[str, Any], console: Console, interrupts: Interrupts) -> int:
    """Prepares the data, then tunes in a folder; returns the exit code."""
    config = _make_config(flags)
    given = {name: value for name, value in flags.items() if value is not None}
    fixed = [name for name in DIMENSIONS if name in given]
    header = prepare_data(config, console)
    examples = header.num_positives * (1 + config.track.sampling.train_negatives)
    space = _without_refused(make_space(config, given, examples), config, header, console)
    if not space.free:
        raise ConfigError("--tune: the flags fix every setting; remove one of them")
    limits = Limits(
        60 * (given.get("minutes") or DEFAULT_MINUTES),
        given.get("max_trials"),
        confirmation_runs(config, "num_runs" in given),
    )
    folder = open_folder(config, fixed)
    try:
        _print_settings(console, config, space, folder, limits)
        lock_path = Path(default_data_dir()) / "timing.lock"
        tuner = Tuner(config, header, space, folder, limits, console, interrupts, lock_path)
        try:
            tuner.run()
            return _conclude(tuner, given, console, interrupts)
        except KeyboardInterrupt:
            return _interrupted(tuner, console)
    finally:
        folder.release()


def _without_refused(
    space: Space, config: RunConfig, header: SplitHeader, console: Console
) -> Space:
    """Removes batch sizes that do not fit into memory; raises ConfigError if the first does not."""
    spec = TrialSpec(config, 0, 1, "", "", header.num_users, header.num_items,
                     header.num_positives, {})  # fmt: skip
    sizes, available = engine_config(spec), available_memory()
    fitting, refused = [], []
    for batch in space.choices["batch_size"]:
        reason = memory.refusal(sizes, batch, available)
        if reason is None:
            fitting.append(batch)
            continue
        if batch == config.batch_size:
            raise ConfigError(f"--batch_size={batch} does not fit into memory: {reason}")
        refused.append((batch, reason))
        console.note(f"note     not tried: {reason}")
    choices = {**space.choices, "batch_size": tuple(fitting)}
    return dataclasses.replace(space, choices=choices, refused=tuple(refused))


def _print_settings(
    console: Console, config: RunConfig, space: Space, folder: TuningFolder, limits: Limits
) -> None:
    """Prints what is tuned, from where, and for how long."""
    console.note(f"tuning   track {config.track_name}, {config.division} division")
    console.note(f"goal     least expected seconds to HR@{config.track.evaluation.top_k} "
                 f"{config.target}, on this machine")
    console.note(f"search   {', '.join(space.free)}")
    fixed = [n for n in DIMENSIONS if n not in space.free]
    if fixed:
        values = dataclasses.asdict(space.start)
        console.note("fixed    " + ", ".join(
            f"{n} {'default' if values[n] is None else values[n]}" for n in fixed))
    until = f", at most {limits.max_trials} trials" if limits.max_trials else ""
    console.note(f"time     {limits.seconds / 60:g} min, confirmation included{until}")
    earlier = len(folder.records())
    if earlier:
        console.note(f"resumed  {earlier} trials, {folder.state['seconds'] / 60:.1f} min so far")
    console.note(f"folder   {relative(folder.path)}")
    load, cpus = os.getloadavg()[0], machine.usable_cpus()
    if load > BUSY_LOAD * cpus:
        console.note(f"note     this machine is busy (load {load:.1f} on {cpus} CPUs): the seconds "
                     "will vary")


def _interrupted(tuner: Tuner, console: Console) -> int:
    """Reports an interrupted tuning; returns the exit code."""
    tuner.book_time()
    console.line("continue with the same flags and --resume")
    console.verdict(
        f"INTERRUPTED: {len(tuner.records)} trials are kept in {relative(tuner.folder.path)}"
    )
    return exit_codes.INTERRUPTED


def _conclude(
    tuner: Tuner, given: dict[str, Any], console: Console, interrupts: Interrupts
) -> int:
    """Confirms the best settings and reports; returns the exit code."""
    if not tuner.records:
        minutes = tuner.limits.seconds / 60
        console.verdict(f"NO TRIAL: the first trial takes more than {minutes:g} min; give more "
                        "--minutes; nothing was kept")
        return exit_codes.OK
    racers = tuner.racers()
    best = winner(racers)
    confirmation: Confirmation | None = None
    is_start = best is not None and best.settings == tuner.space.start
    if best is not None and not is_start and tuner.has_time_to_confirm:
        tuner.book_time()
        runs = tuner.limits.confirmation_runs
        confirmation = confirm(
            tuner.config, best.settings, tuner.folder.path, runs, console, interrupts
        )
        if confirmation is None:
            raise KeyboardInterrupt
    tuner.book_time()
    outcome = Outcome(
        tuner.config, tuner.space, tuner.folder.path, given, tuner.records, racers, best,
        confirmation, tuner.folder.state["seconds"], tuner.new_trials, tuner.confirmation_seconds(),
    )
    with interrupts.deferred():
        tuner.folder.state["confirmation"] = (
            confirmation.as_json(tuner.folder.path) if confirmation else None)
        tuner.folder.save()
        text = write_reports(outcome)
    console.line("")
    console.line(text)
    console.verdict(f"{outcome.verdict}; report: {relative(outcome.folder / 'report.html')}")
    return exit_codes.OK


def relative(path: Path) -> Path:
    """Returns the path relative to the current folder if it is inside it, else unchanged."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
