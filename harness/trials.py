"""The parent process: one set of runs, from the flags to the verdict.

Prepares the data, starts a fresh process for each trial, shows what they do and
has their logs judged. It never imports TensorFlow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Mapping

from harness import caches, cluster, exit_codes, inputs, judgement, mirror, system, tpu, workers
from harness.config import ConfigError, RunConfig, make_config
from harness.console import Console, epoch_line
from harness.engines import EngineError, check_engine_name
from harness.process import Interrupts, Message, TrialEnd, run_trial
from harness.result_tree import ResultTree, SetState, TreeError
from harness.seeds import trial_seed
from harness.trial_spec import TrialSpec, dataset_spec
from reference_model.cache import prepare
from reference_model.prepared_file import CacheHeader
from reference_model.split import DataError
from reference_model.tables import Progress


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
    except (cluster.ClusterError, ConfigError, DataError, EngineError, TreeError) as error:
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
    members = cluster.for_run(config)
    if config.device == "tpu" and not config.prepare_only:
        tpu.probe(config)
    _say_settings(console, config)
    header = sizes_of_track(config) if config.synthetic_batches else prepare_data(config, console)
    inputs.prepare(config, header, _progress(console))
    if config.prepare_only:
        console.verdict(
            f"prepared {config.track_name}: {header.num_users} users, {header.num_items} "
            f"items, {header.num_positives} positives in {config.data_url or config.data_dir}"
        )
        return exit_codes.OK
    _require_caches(config)
    if members is not None:
        cluster.check_port(members)
        if not members.is_chief:
            try:
                return workers.serve(config, members, header, console, interrupts)
            finally:
                inputs.sweep(config)
        if members.num_workers > 1:
            console.note(f"cluster  {members.num_workers} workers; this is {members.name(0)}")
    tree = ResultTree(config.results_dir, config.system, config.benchmark)
    tree.lock()
    try:
        state = tree.begin(config, num_runs_given)
        description = system.describe(
            config.system, config.org, config.division, config.device, tree.root,
            nodes=1 if members is None else members.num_nodes,
        )
        system.write_json(tree.root / "system.json", description)
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
        inputs.sweep(config)
        tree.unlock()


# -- before the first trial ---------------------------------------------------


def prepare_data(config: RunConfig, console: Console) -> CacheHeader:
    """Fetches and preprocesses the dataset, untimed, and holds it to the track.

    Raises DataError, or ConfigError where the closed division cannot take it.
    """
    track, progress = config.track, _progress(console)
    mirror.pull(config, progress)
    header = prepare(dataset_spec(track), config.data_dir, progress=progress)
    mirror.push(config, progress)
    given = track.evaluation.negatives if track.evaluation.given else 0
    if header.num_negatives != given:
        raise ConfigError(
            f"track {track.name} evaluates against {given or 'drawn'} given negatives, but "
            f"{header.source} brings {header.num_negatives or 'none'}"
        )
    if config.division == "closed":
        pinned = track.dataset
        for what in ("num_users", "num_items", "num_positives"):
            wanted, found = getattr(pinned, what), getattr(header, what)
            if wanted is not None and wanted != found:
                raise ConfigError(
                    f"{header.source} has {what} {found}, but track {track.name} has {wanted}; "
                    "use the track's data, or --division=open"
                )
        if pinned.split_digest and header.digest != pinned.split_digest:
            raise ConfigError(
                f"{header.source} is not the data of track {track.name} (its split has another "
                "digest); use the track's data, or --division=open"
            )
    return header


def _progress(console: Console) -> Progress:
    """Shows what preparing does."""
    said: set[str] = set()

    def progress(text: str, done: int | None = None, total: int | None = None) -> None:
        if done is None:
            console.note(text)
            return
        if text not in said:
            console.progress(text)
            said.add(text)
        share = f" {100 * done / total:3.0f}%" if total else f" {done / 2**20:.0f} MiB"
        console.progress(text + share, lasting=False)

    return progress


def sizes_of_track(config: RunConfig) -> CacheHeader:
    """What the header of the track's dataset would say, for runs that need no dataset.

    Raises ConfigError where the track does not say how large its dataset is.
    """
    track = config.track
    sizes = track.dataset.num_users, track.dataset.num_items, track.dataset.num_positives
    if None in sizes:
        raise ConfigError(
            f"--synthetic_batches: track {track.name} does not say how many users, items and "
            "positives its dataset has; write num_users, num_items and num_positives into it"
        )
    return CacheHeader(
        track.dataset.name, track.dataset.kind, *sizes, num_negatives=0, digest="",
        min_ratings=track.dataset.min_ratings, source="", source_sha256="", rows=0, bad={},
    )  # fmt: skip


def _require_caches(config: RunConfig) -> None:
    """With --clear_caches=require, finds out before anything is made."""
    if config.clear_caches == "require":
        cleared = caches.clear("require")
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


class _TrialView:
    """Shows one trial's messages as they come."""

    # Epochs that are shorter on average pass without their stages being shown.
    SHOWN_SECONDS = 1.0

    def __init__(self, console: Console, spec: TrialSpec, num_runs: int):
        self._console, self._spec = console, spec
        self._num_runs = num_runs
        self._name = f"run {spec.run + 1}/{num_runs}"
        self._epochs, self._seconds, self._found = 0, 0.0, ""

    def show(self, message: Message) -> None:
        if message["type"] == "stage":
            self._stage(message["name"])
        elif message["type"] == "note":
            self._console.line(f"{self._name}: {message['text']}")
        elif message["type"] == "picked":
            self._console.note(f"{self._name} trains on {message['text']}")
        elif message["type"] == "epoch":
            self._epoch(message)

    def _stage(self, stage: str) -> None:
        if stage in ("training", "evaluating"):
            if self._seconds >= self.SHOWN_SECONDS * self._epochs:
                text = f"{self._name} ep {self._epochs + 1:<2} {stage}{self._found}"
                self._console.progress(text, lasting=False)
            return
        text = f"{self._name} seed {self._spec.seed}: {stage}"
        self._console.progress(text, lasting=stage.startswith(("setting up", "waiting")))

    def _epoch(self, message: Message) -> None:
        config = self._spec.config
        target, top_k = config.target, config.track.evaluation.top_k
        self._epochs = epoch = message["epoch"]
        self._seconds += message["train_seconds"] + message["eval_seconds"]
        reached = target is not None and message["hr"] >= target
        left = 0 if reached else config.max_epochs - epoch
        goal = "" if target is None else f" / {target:.4f}"
        self._found = f"  (ep {epoch}: HR@{top_k} {message['hr']:.4f}{goal})"
        self._console.progress(
            epoch_line(
                self._spec.run, self._num_runs, message, target, left,
                self._seconds / epoch, top_k,
            )  # fmt: skip
        )


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
    result = judgement.judge(config, tree, state.num_runs, end)
    if result.rows:
        console.line("")
        console.line(result.table)
    for line in result.lines:
        console.line(line)
    report = judgement.write_report(config, tree, state, result)
    console.verdict(f"{result.verdict}; report: {_from_here(report)}")
    return exit_codes.FAIL if result.failed else exit_codes.OK
