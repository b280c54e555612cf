"""One timed run in this process, from its first log record to its last.

The diagram "One run" in docs/design.md shows the phases of a run in order: untimed set-up and
compilation, the timed epochs, and the end, which closes the log and writes the untimed
outputs.
"""

from __future__ import annotations

import hashlib
import math
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from harness.base.clock import RunClock, Stopwatch
from harness.base.error_text import describe_exception, one_line
from harness.base.machine_load import LoadMeter
from harness.config.trial_spec import TrialSpec, dataset_spec, engine_config
from harness.devices import tf_config
from harness.inputs import batch_input
from harness.logs.run_log import RESULT_REASONS, NullRunLog, RunLog
from harness.multi_worker import coordination
from harness.multi_worker.connection import WorkerLost
from harness.multi_worker.rendezvous import RendezvousError
from harness.processes.parent_pipe import ParentPipe
from harness.processes.watchdog import Watchdog
from harness.trial import run_outputs
from harness.trial.epoch_stats import check_evaluation, epoch_stats
from harness.trial.submission import log_runtime, log_submission
from harness.trial.tensorboard import EpochScalars
from reference_model.base.errors import DataError, NonFiniteLoss, PreparationStalled
from reference_model.data.dataset_facts import log_dataset
from reference_model.data.split import Split
from reference_model.engine import Engine, EvalResult

if TYPE_CHECKING:
    from harness.trial.program_cache import ProgramCache

# Decimals of HR in the log. Decimal numbers that differ within their first 15 significant digits
# are different doubles, so editing any digit of the logged HR changes the value that a reader
# gets. A 17th digit could be edited without such a change, because several decimal numbers with
# 17 digits can represent the same double.
_HR_DECIMALS = 15


class UnmetRequestError(ValueError):
    """An engine or device that a flag names does not exist or does not support the request."""


class Trial:
    """One run in this process.

    Args:
      spec: The trial to run.
      parent: Receives messages on the progress of the run.
      parent_id: Process id of the parent; the run ends when the parent ends. If None, a
        parent that ended before the run began is not detected.
      wait_for_start: Waits until the parent has recorded the attempt in the ledger; returns
        whether it has.
    """

    def __init__(
        self,
        spec: TrialSpec,
        parent: ParentPipe,
        parent_id: int | None = None,
        wait_for_start: Callable[[], bool] = lambda: True,
    ):
        self.spec, self.config, self.parent = spec, spec.config, parent
        self._wait_for_start = wait_for_start
        self.clock = RunClock()
        self.log = make_log(spec, self.clock)
        self.sink = self.log.sink
        self.watchdog = Watchdog(self._end_run, parent_id)
        self.engine: Engine | None = None
        self.workers: coordination.SingleWorker | coordination.WorkerGroup = (
            coordination.SingleWorker()
        )
        self.epoch_scalars: list[EpochScalars] = []
        self._epoch_seconds: list[float] = []
        self._load = LoadMeter()
        # Known after the devices are set up.
        self._runtime = ""
        self._programs: ProgramCache | None = None
        # Whether the run ends because of a flag, so that the parent reports a usage error.
        self.is_usage_error = False

    def run(self) -> None:
        """Runs all phases, and ends the log in every case."""
        self.watchdog.start()
        reason, message = self._run_until_end()
        self._close_engine()
        self._end_run(reason, message)
        if self._programs is not None:
            self._programs.save()
        if reason in RESULT_REASONS:
            self._sync_end_of_run()

    def _run_until_end(self) -> tuple[str, str]:
        """Runs the phases up to the end of training.

        Returns:
          (The reason for the end, one of REASONS in `compliance.logs.keys`; a message for
          the user.)
        """
        try:
            self._enter_stage("setting up")
            log_submission(self.sink, self.spec)
            self._initialize()
            return self._train()
        except NonFiniteLoss as error:
            return "nan_loss", str(error)
        except PreparationStalled as error:
            return "stalled", str(error)
        except UnmetRequestError as error:
            return "exception", str(error)
        except DataError as error:  # unusable data or shards; its message is for the user
            self.is_usage_error = True
            return "exception", str(error)
        except WorkerLost as error:
            return "worker_lost", self.workers.peer_failure_reason(error) or str(error)
        except BaseException as error:
            traceback.print_exc()
            # TensorFlow reports a lost worker by any of several error types.
            lost = self.workers.peer_failure_reason(error)
            return ("worker_lost", lost) if lost else ("exception", describe_exception(error))

    def _enter_stage(self, name: str) -> None:
        """Reports the start of a stage to the watchdog and the parent."""
        self.watchdog.begin_stage(name)
        self.parent.send("stage", name=name)

    # -- untimed --------------------------------------------------------------

    def _initialize(self) -> None:
        """Sets up devices and engine, compiles and warms up: `init_start` to `init_stop`."""
        from harness.config import engine_loader
        from harness.devices import runtime, setup
        from harness.devices.engine_settings import with_device_settings
        from harness.trial import program_cache

        self.sink.start("init_start")
        try:
            device = self._set_up_devices()
            exported = runtime.exported_programs(self.config)
            folder = program_cache.make_xla_cache(self.config, device)
            settings = with_device_settings(
                engine_config(self.spec), device, exported, self.config.engine
            )
            self._programs = program_cache.open_cache(
                self.config, settings, device, folder, exported
            )
            self.engine = engine_loader.make_engine(
                self.config.engine, settings, self.sink, device.kind, device.strategy,
                device.pjrt_client, exported or self._programs,
            )  # fmt: skip
            self.engine = batch_input.wrap_engine(self.engine, self.spec, self.sink)
        except (setup.DeviceError, ValueError) as error:
            self.is_usage_error = True
            raise UnmetRequestError(one_line(error)) from error
        self._become_attempt()
        self.sink.point("engine", self.config.engine)
        self._runtime = device.runtime
        log_runtime(self.sink, self.parent, device, exported)
        kind, name, threads, _ = device.identity
        self.sink.point(
            "device", kind, num_devices=device.num_devices, name=name, threads=threads,
            strategy=device.strategy_name, workers=device.num_workers,
        )  # fmt: skip
        if self.config.device == "auto" or self.config.strategy == "auto":
            self.parent.send("device", text=device.describe())
        self._enter_stage("compiling")
        self.engine.prepare()
        if self._programs is not None:
            self._programs.end_warm_up()
        # The warm-up has changed weights and random state.
        self.engine.reset(self.spec.seed)
        run_outputs.start_profile(self.spec, self.parent, self._runtime)
        self.sink.end("init_stop")

    def _become_attempt(self) -> None:
        """Opens the log, after the parent has recorded the attempt in the ledger.

        The checks before this call write nothing, so that a rejected flag changes nothing on
        the disk.
        """
        self.parent.send("ready")
        if not self._wait_for_start():
            raise RuntimeError("the parent process has ended before the attempt began")
        self.log.open()

    def _set_up_devices(self) -> Any:
        """Sets up this machine's devices, or those of all workers after their rendezvous.

        Returns:
          A `harness.devices.setup.Device`.

        Raises:
          UnmetRequestError: Workers are missing or differ.
          DeviceError: The devices that the flags request do not exist.
        """
        from harness.devices import setup

        cluster = tf_config.read_cluster(self.config)
        if cluster is None or cluster.num_workers == 1:
            return setup.set_up(self.config)
        # Imported before the rendezvous: the import is slow, and the others would wait for it.
        import tensorflow  # noqa: F401

        self._enter_stage("waiting for the other workers")
        try:
            self.workers, self.spec = coordination.rendezvous(
                self.spec, cluster, self._end_for_lost_worker
            )
        except RendezvousError as error:
            raise UnmetRequestError(str(error)) from error
        self.parent.send("assigned", run=self.spec.run, seed=self.spec.seed)
        self._enter_stage("connecting")
        with coordination.connect_timeout(self.parent.send):
            device = setup.set_up(self.config)
        # TensorFlow has replaced the watchdog's signal handlers with its own.
        self.watchdog.install_signal_handlers()
        return device

    def _end_for_lost_worker(self, message: str, is_usage_error: bool) -> None:
        """Ends the run and the process, in any phase, because another worker is lost."""
        self.is_usage_error = is_usage_error
        self.watchdog.end_process("exception" if is_usage_error else "worker_lost", message)

    # -- timed ----------------------------------------------------------------

    def _train(self) -> tuple[str, str]:
        """Starts the clock, loads the data, and trains until the target or the epoch cap.

        Returns:
          (The reason for the end, a message.)
        """
        self.sink.point("machine_load", self._load.measure().as_json(), when="before_run")
        metadata = {"wall_time_ms": self.clock.wall_ms()}
        if self.config.profile_dir:
            metadata["profiled"] = True
        if self.config.synthetic_batches:
            metadata["synthetic_batches"] = True
        self.sink.start("run_start", **metadata)
        self._enter_stage("loading")
        # No worker may read the dataset before the chief's clock has started.
        self.workers.sync_start_of_run()
        if self.config.synthetic_batches:
            self._log_synthetic_dataset()
            split = None
        else:
            split = self._load_split()
        self.sink.point("eval_target", self.config.target)
        self.engine.load(split)
        for epoch in range(1, self.config.max_epochs + 1):
            result = self._run_epoch(epoch, self.spec.num_users)
            is_reached = self.config.target is not None and result.hr >= self.config.target
            if self.workers.sync_stop_decision(is_reached):
                return "target", ""
        return "epoch_cap", f"{self.config.max_epochs} epochs without reaching the target"

    def _load_split(self) -> Split | None:
        """Reads the prepared split; returns None if shards contain all data of the run.

        Raises:
          RuntimeError: The split's sizes differ from those that the engine was compiled for.
        """
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

    def _log_synthetic_dataset(self) -> None:
        """Logs the sizes of the synthetic batches instead of a dataset's."""
        sizes = (self.spec.num_users, self.spec.num_items, self.spec.num_positives)
        digest = hashlib.sha256(f"synthetic batches {sizes}".encode()).hexdigest()
        min_ratings = self.config.track.dataset.min_ratings
        log_dataset(self.sink, "synthetic_batches", digest, min_ratings, *sizes)

    def _run_epoch(self, epoch: int, num_users: int) -> EvalResult:
        """Trains one epoch, evaluates all users and logs both.

        Args:
          epoch: From 1.
          num_users: Users that the evaluation must cover.

        Raises:
          NonFiniteLoss: The loss is NaN or infinite.
          ValueError: The engine's figures are inconsistent.
        """
        sink, watch = self.sink, Stopwatch()
        self._enter_stage("training")
        sink.start("epoch_start", epoch_num=epoch)
        trained = self.engine.train_epoch(epoch)
        if not math.isfinite(trained.loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {trained.loss}")
        sink.end("epoch_stop", epoch_num=epoch, steps=trained.steps, loss=trained.loss)
        train_seconds = watch.lap()
        self._enter_stage("evaluating")
        sink.start("eval_start", epoch_num=epoch)
        evaluated = check_evaluation(self.engine.evaluate(), num_users)
        logged_hr = round(evaluated.hr, _HR_DECIMALS)
        sink.point("eval_accuracy", logged_hr, epoch_num=epoch, samples_count=evaluated.scored)
        sink.point("eval_ndcg", evaluated.ndcg, epoch_num=epoch)
        sink.end("eval_stop", epoch_num=epoch, hits=evaluated.hits)
        eval_seconds = watch.lap()
        self.log.epoch = epoch
        self._epoch_seconds.append(train_seconds + eval_seconds)
        stats = epoch_stats(trained, evaluated, train_seconds, eval_seconds)
        sink.point("tracked_stats", stats, epoch_num=epoch)
        self.epoch_scalars.append(
            EpochScalars(
                epoch, self.clock.now_ns() / 1e9, evaluated.hr, evaluated.ndcg, trained.loss,
                stats["throughput"],
            )  # fmt: skip
        )
        self.parent.send("epoch", epoch=epoch, hr=evaluated.hr, ndcg=evaluated.ndcg, **stats)
        return evaluated

    # -- the end --------------------------------------------------------------

    def _close_engine(self) -> None:
        """Stops the engine's threads, so that they log the ends of their intervals."""
        try:
            if self.engine is not None:
                self.engine.close()
        except Exception:
            traceback.print_exc()

    def _end_run(self, reason: str, message: str) -> None:
        """Ends the log and reports the end; only the first call has an effect.

        Called by the main thread, or by the watchdog's thread while the main thread trains.

        Args:
          reason: One of REASONS in `compliance.logs.keys`.
          message: One line for the user.
        """
        self.workers.stop_monitoring()
        is_result = reason in RESULT_REASONS
        after_stop = (lambda: self._write_result_outputs(reason)) if is_result else _do_nothing
        if not self.log.stop(reason, after_stop):
            return
        self.watchdog.begin_stage(None)
        run_outputs.write_scalars(self.spec, self.parent, self.epoch_scalars)
        self.parent.send(
            "end", reason=reason, message=message, is_result=self.log.published is not None,
            is_usage_error=self.is_usage_error,
        )  # fmt: skip
        if not is_result:
            self.workers.announce_exit(reason, message, self.is_usage_error)

    def _sync_end_of_run(self) -> None:
        """Reports to the parent whether another run follows, which the chief decides."""
        try:
            self.parent.send("next_run", more=self.workers.sync_end_of_run(self.spec.has_next_run))
        except WorkerLost:  # the run has ended, and its log records the reason
            traceback.print_exc()

    def _write_result_outputs(self, reason: str) -> None:
        """Writes the untimed outputs of a result, after the clock has stopped."""
        run_outputs.log_noise(self.parent, self.sink, self._load, self._epoch_seconds)
        # The profile ends now, since the steps below are not part of the run.
        run_outputs.stop_profile(self.spec, self.parent, self._runtime)
        if self.config.synthetic_batches:
            return
        self._enter_stage("closing")
        # After a NaN loss the weights are useless.
        keep_checkpoint = self.config.keep_checkpoint and reason != "nan_loss"
        run_outputs.log_data_digests(
            self.spec, self.parent, self.sink, self.engine, keep_checkpoint
        )


def make_log(spec: TrialSpec, clock: RunClock) -> RunLog | NullRunLog:
    """Makes the log of the run in this process.

    Args:
      spec: The trial.
      clock: Supplies the time stamps of the records.

    Returns:
      A log that is written to a file; if another worker writes it, a log that is not.
    """
    if spec.is_silent:
        return NullRunLog()
    return RunLog(spec.config.log_format, Path(spec.attempt_log), Path(spec.result_log), clock)


def _do_nothing() -> None:
    """Adds nothing to the log of an aborted run after its end."""
