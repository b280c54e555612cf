"""One timed run: `python -m harness.trial`, the process that trains.

Reads a `TrialSpec` as JSON from standard input, writes the run's log, and tells
its parent what is going on by JSON lines on a pipe. Standard output and error
are the parent's log file. The steps and their order are those of DESIGN, "One
run, in order"; nothing here but the log file outlives the process.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from compliance.chain.attempt_record import KEY
from harness.base import page_cache
from harness.base.clock import RunClock, Stopwatch
from harness.config.trial_spec import TrialSpec, dataset_spec, engine_config
from harness.devices import tf_config
from harness.inputs import batch_input
from harness.logs import data_digests, provenance
from harness.logs.run_log import PLACED_REASONS, RunLog, SilentLog
from harness.multi_worker import coordination
from harness.multi_worker.connection import WorkerLost
from harness.processes.parent_pipe import Parent, one_line
from harness.processes.watchdog import Watcher
from harness.results import checkpoints
from harness.trial import tensorboard
from harness.trial.epoch_stats import check_evaluation, epoch_stats
from reference_model.base.errors import DataError, NonFiniteLoss, PreparationStalled
from reference_model.data.dataset_facts import say_dataset
from reference_model.engine import Engine, EvalResult
from reference_model.events import EventSink


def log_submission(sink: EventSink, spec: TrialSpec) -> None:
    """Who runs what; before anything is set up."""
    config = spec.config
    sink.point("submission_benchmark", "ncf")
    sink.point("submission_org", config.org)
    sink.point("submission_division", config.division)
    sink.point("submission_status", "onprem")
    sink.point("submission_platform", config.system)
    sink.point("track", config.track_name)
    sink.point("seed", spec.seed, deterministic=config.deterministic)
    sink.point(KEY, spec.link)
    cleared = page_cache.clear(config.clear_caches)
    sink.point("cache_clear", cleared.done, reason=cleared.reason)
    provenance.say(sink, config)


class UsageError(ValueError):
    """The engine or the device that a flag names is not there or cannot do this."""


class Trial:
    """One run in this process, from its first record to its last."""

    def __init__(self, spec: TrialSpec, parent: Parent, parent_id: int | None = None):
        self.spec, self.config, self.parent = spec, spec.config, parent
        self.clock = RunClock()
        self.log = make_log(spec, self.clock)
        self.sink = self.log.sink
        self.watcher = Watcher(self._end, parent_id)
        self.engine: Engine | None = None
        self.crew: coordination.Alone | coordination.Crew = coordination.Alone()
        self.epochs: list[tensorboard.EpochScalars] = []
        self.usage = False  # a flag asked for an engine or device that is not there

    def run(self) -> None:
        """The whole run; ends the log on every way out."""
        self.watcher.start()
        try:
            self.stage("setting up")
            log_submission(self.sink, self.spec)
            self._prepare()
            reason, message = self._timed()
        except NonFiniteLoss as error:
            reason, message = "nan_loss", str(error)
        except PreparationStalled as error:
            reason, message = "stalled", str(error)
        except UsageError as error:
            reason, message = "exception", str(error)
        except DataError as error:  # data or shards that cannot be used; the line is the user's
            self.usage = True
            reason, message = "exception", str(error)
        except WorkerLost as error:
            reason, message = "worker_lost", self.crew.why_lost(error) or str(error)
        except BaseException as error:
            traceback.print_exc()
            lost = self.crew.why_lost(error)
            reason, message = ("worker_lost", lost) if lost else ("exception", one_line(error))
        self._close_engine()
        self._end(reason, message)
        if reason in PLACED_REASONS:
            self._part()

    def stage(self, name: str) -> None:
        self.watcher.stage(name)
        self.parent.tell("stage", name=name)

    # -- untimed --------------------------------------------------------------

    def _prepare(self) -> None:
        from harness.config import engine_loader
        from harness.devices import setup

        self.sink.start("init_start")
        try:
            device = self._set_up()
            self.engine = engine_loader.make_engine(
                self.config.engine, engine_config(self.spec), self.sink, device.kind,
                device.strategy,
            )  # fmt: skip
            self.engine = batch_input.attach(self.engine, self.spec, self.sink)
        except (setup.DeviceError, ValueError) as error:
            self.usage = True
            raise UsageError(" ".join(str(error).split())) from error
        self.sink.point("engine", self.config.engine)
        kind, name, threads, _ = device.identity
        self.sink.point(
            "device", kind, num_devices=device.num_devices, name=name, threads=threads,
            strategy=device.strategy_name, workers=device.num_workers,
        )  # fmt: skip
        if self.config.device == "auto" or self.config.strategy == "auto":
            self.parent.tell("picked", text=device.describe())
        self.stage("compiling")
        self.engine.prepare()
        self.engine.reset(self.spec.seed)
        self._profile(start=True)
        self.sink.end("init_stop")

    def _set_up(self) -> Any:
        """The devices; those of all workers, once all of them are there and alike."""
        from harness.devices import setup

        members = tf_config.for_run(self.config)
        if members is None or members.num_workers == 1:
            return setup.set_up(self.config)
        import tensorflow  # noqa: F401  what takes long is done before others wait for it

        self.stage("waiting for the other workers")
        try:
            self.crew, self.spec = coordination.come_together(self.spec, members, self._lost)
        except coordination.NotTogether as error:
            raise UsageError(str(error)) from error
        self.parent.tell("joined", run=self.spec.run, seed=self.spec.seed)
        self.stage("connecting")
        with coordination.connecting(self.parent.tell):
            device = setup.set_up(self.config)
        # TensorFlow has put a handler of its own in the place of ours.
        self.watcher.take_signals()
        return device

    def _lost(self, message: str, usage: bool) -> None:
        """Another worker is gone: this run ends, wherever it is."""
        self.usage = usage
        self.watcher.leave("exception" if usage else "worker_lost", message)

    # -- timed ----------------------------------------------------------------

    def _timed(self) -> tuple[str, str]:
        """The clock runs; returns how it ended."""
        metadata = {"wall_time_ms": self.clock.wall_ms()}
        if self.config.profile_dir:
            metadata["profiled"] = True
        if self.config.synthetic_batches:
            metadata["synthetic_batches"] = True
        self.sink.start("run_start", **metadata)
        self.stage("loading")
        self.crew.begin()
        split = self._load_synthetic() if self.config.synthetic_batches else self._load()
        self.sink.point("eval_target", self.config.target)
        self.engine.load(split)
        for epoch in range(1, self.config.max_epochs + 1):
            result = self._epoch(epoch, self.spec.num_users)
            reached = self.config.target is not None and result.hr >= self.config.target
            if self.crew.decide(reached):
                return "target", ""
        return "epoch_cap", f"{self.config.max_epochs} epochs without reaching the target"

    def _load(self) -> Any:
        """The split, from its prepared file; None where shards hold all that a run needs."""
        from reference_model.data.prepare import load_split

        self.sink.point("negatives_drawn", batch_input.negatives_drawn(self.config))
        if self.config.input == "shards":
            return None
        split = load_split(dataset_spec(self.config.track), self.config.data_dir, self.sink)
        sizes = (split.num_users, split.num_items, split.num_positives)
        wanted = (self.spec.num_users, self.spec.num_items, self.spec.num_positives)
        if sizes != wanted:
            raise RuntimeError(f"the dataset has (users, items, pairs) {sizes}, not {wanted}")
        return split

    def _load_synthetic(self) -> None:
        """There is no dataset; the log says which sizes the made-up batches have."""
        sizes = (self.spec.num_users, self.spec.num_items, self.spec.num_positives)
        digest = hashlib.sha256(f"synthetic batches {sizes}".encode()).hexdigest()
        min_ratings = self.config.track.dataset.min_ratings
        say_dataset(self.sink, "synthetic_batches", digest, min_ratings, *sizes)

    def _epoch(self, epoch: int, num_users: int) -> EvalResult:
        sink, watch = self.sink, Stopwatch()
        self.stage("training")
        sink.start("epoch_start", epoch_num=epoch)
        trained = self.engine.train_epoch(epoch)
        if not math.isfinite(trained.loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {trained.loss}")
        sink.end("epoch_stop", epoch_num=epoch, steps=trained.steps, loss=trained.loss)
        train_seconds = watch.lap()
        self.stage("evaluating")
        sink.start("eval_start", epoch_num=epoch)
        found = check_evaluation(self.engine.evaluate(), num_users)
        # In 15 decimals each digit counts: a 17th can change and mean the same double.
        logged = round(found.hr, 15)
        sink.point("eval_accuracy", logged, epoch_num=epoch, samples_count=found.scored)
        sink.point("eval_ndcg", found.ndcg, epoch_num=epoch)
        sink.end("eval_stop", epoch_num=epoch, hits=found.hits)
        eval_seconds = watch.lap()
        self.log.epoch = epoch
        stats = epoch_stats(trained, found, train_seconds, eval_seconds)
        sink.point("tracked_stats", stats, epoch_num=epoch)
        self.epochs.append(
            tensorboard.EpochScalars(
                epoch, self.clock.now_ns() / 1e9, found.hr, found.ndcg, trained.loss,
                stats["throughput"],
            )  # fmt: skip
        )
        self.parent.tell("epoch", epoch=epoch, hr=found.hr, ndcg=found.ndcg, **stats)
        return found

    # -- the end --------------------------------------------------------------

    def _close_engine(self) -> None:
        """Stops the engine's threads, so that no interval of the log stays open."""
        try:
            if self.engine is not None:
                self.engine.close()
        except Exception:
            traceback.print_exc()

    def _end(self, reason: str, message: str) -> None:
        """Ends the log; called by the run, or by its watcher in another thread."""
        self.crew.rest()
        keep = self.config.keep_checkpoint and reason != "nan_loss"  # whose weights are lost
        after = (lambda: self._close_result(keep)) if reason in PLACED_REASONS else _nothing
        if not self.log.stop(reason, after):
            return
        self.watcher.stage(None)
        self._write_scalars()
        placed = None if self.log.placed is None else str(self.log.placed)
        self.parent.tell(
            "end", reason=reason, message=message, placed=placed, usage=self.usage
        )
        if reason not in PLACED_REASONS:
            self.crew.leave(reason, message, self.usage)

    def _part(self) -> None:
        """All workers learn from the chief whether another run follows."""
        try:
            self.parent.tell("parted", more=self.crew.part(self.spec.more))
        except WorkerLost:  # the run has ended, and its log says how
            traceback.print_exc()

    def _close_result(self, keep_checkpoint: bool) -> None:
        """What a run that is a result leaves besides its log; the clock stands."""
        self._profile(start=False)  # first: what follows is no part of the run
        if not self.config.synthetic_batches:
            self._tell_what_was_drawn(keep_checkpoint)

    def _write_scalars(self) -> None:
        """For TensorBoard, where wanted; the log is in its place already."""
        if self.spec.silent or not self.config.tensorboard_dir or not self.epochs:
            return
        folder = Path(self.config.tensorboard_dir, self.config.benchmark, self.log.attempt.stem)
        try:
            tensorboard.write(folder, self.epochs, self.config.track.evaluation.top_k)
        except Exception as error:  # nothing of the run depends on it
            traceback.print_exc()
            self.parent.tell("note", text=f"no TensorBoard scalars: {one_line(error)}")

    def _tell_what_was_drawn(self, keep_checkpoint: bool) -> None:
        """Digests and, where wanted, the weights; the clock stands, the run is a result."""
        self.stage("closing")
        found: dict[str, str] = {}
        try:
            found = data_digests.of_engine(self.engine)
            if found:
                self.sink.point("data_digests", found)
            if keep_checkpoint:
                self._keep_checkpoint(found.get("evaluation_lists"))
        except Exception as error:  # an engine that cannot tell has run all the same
            traceback.print_exc()
            self.parent.tell("note", text=f"what was drawn is not told: {one_line(error)}")

    def _keep_checkpoint(self, lists: str | None) -> None:
        if not callable(getattr(self.engine, "get_weights", None)):
            self.parent.tell("note", text="no checkpoint: the engine has no get_weights")
            return
        path = checkpoints.path_for(Path(self.spec.attempt).parent, self.spec.run)
        digest = checkpoints.save(path, self.engine.get_weights(), lists)
        self.sink.point("checkpoint", digest, bytes=path.stat().st_size)

    def _profile(self, start: bool) -> None:
        if self.spec.silent or not self.config.profile_dir:
            return
        try:
            import tensorflow as tf

            if start:
                tf.profiler.experimental.start(
                    os.path.join(self.config.profile_dir, f"run_{self.spec.run}")
                )
            else:
                tf.profiler.experimental.stop()
        except Exception as error:  # the run goes on, and stays unscored
            traceback.print_exc()
            self.parent.tell("note", text=f"no profile: {one_line(error)}")


def make_log(spec: TrialSpec, clock: RunClock) -> RunLog | SilentLog:
    """The log of the run in this process; only one of several workers writes it."""
    if spec.silent:
        return SilentLog()
    return RunLog(spec.config.log_format, Path(spec.attempt), Path(spec.result), clock)


def _nothing() -> None:
    """An aborted run says no more than its end."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.trial", description=__doc__)
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor of messages")
    parser.add_argument("--parent", type=int, help="process without which there is no run")
    parser.add_argument("--lock", type=int, help="file descriptor to keep open")
    args = parser.parse_args()
    if args.lock is not None:
        os.set_inheritable(args.lock, False)
    parent = Parent(args.pipe)
    Trial(TrialSpec.from_json(sys.stdin.read()), parent, args.parent).run()
    # Not by returning: a background thread of an engine must not keep the
    # process, nor an error in its tear-down change how the run ended.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

