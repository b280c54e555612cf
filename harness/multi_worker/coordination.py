"""Coordination of the worker processes that train one run together.

Before TensorFlow connects the workers, every other worker connects to the chief (see
`rendezvous`). These connections are separate from TensorFlow's and stay open until the
processes end. When a process ends, the operating system closes its connections, so the
others detect it at once. A process that hangs or has lost the network stops sending
heartbeats, so the others detect it within SILENCE_LIMIT_SECONDS. Neither depends on how
TensorFlow reports a lost peer. `connection` lists the messages.

All workers call the methods of `WorkerGroup` in this order during a run:

    join                 all workers are connected and agree; the chief sends run and seed
    sync_start_of_run    the chief's clock runs; no worker may read the dataset before this
    sync_stop_decision   after each epoch: whether the chief ends the run
    sync_end_of_run      the chief's log is closed: whether another run follows
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import threading
import time
from typing import Any, Callable, Iterator, Mapping

from harness.base.clock import Stopwatch
from harness.config.trial_spec import TrialSpec
from harness.devices.tf_config import Cluster, rendezvous_timeout
from harness.multi_worker.connection import (
    HEARTBEAT_SECONDS,
    SILENCE_LIMIT_SECONDS,
    PeerConnection,
    WorkerLost,
)
from harness.multi_worker.rendezvous import (
    RendezvousError,
    RunAssignment,
    consistency_fields,
    gather_workers,
    report_to_chief,
)

# How long a process that is about to end waits for another process to end, or for another
# thread to end this process.
END_WAIT_SECONDS = 15.0
# If TensorFlow reports a lost peer without its name, a worker that has been silent for this
# long is treated as the lost worker.
_SUSPECT_SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
# The classes in `tf.errors` that TensorFlow raises if a peer is lost.
_PEER_FAILURE_ERRORS = (
    "AbortedError", "CancelledError", "DeadlineExceededError", "FailedPreconditionError",
    "InternalError", "UnavailableError",
)  # fmt: skip
# Time limit for TensorFlow to connect the workers after their rendezvous. It is less than
# SILENCE_LIMIT_SECONDS because no heartbeat can be sent during that time.
_CONNECT_TIMEOUT_SECONDS = 35


def rendezvous(
    spec: TrialSpec, cluster: Cluster, on_lost: Callable[[str, bool], None]
) -> tuple[WorkerGroup, TrialSpec]:
    """Connects all workers of a run and adopts the chief's run number and seed.

    Args:
      spec: The trial of this worker.
      cluster: Addresses of the workers.
      on_lost: See `WorkerGroup`.

    Returns:
      (The connected workers, the trial with the chief's run number and seed.)

    Raises:
      RendezvousError: Workers are missing or differ before the first run.
      WorkerLost: Workers are missing or differ before a later run.
    """
    workers, is_first = WorkerGroup(cluster, on_lost), spec.trial_index == 0
    own_assignment = RunAssignment(spec.run, spec.seed)
    try:
        assignment = workers.join(
            own_assignment, consistency_fields(spec), rendezvous_timeout(is_first)
        )
    except RendezvousError as error:
        if is_first:
            raise
        raise WorkerLost(str(error)) from error
    return workers, dataclasses.replace(spec, **assignment._asdict())


@contextlib.contextmanager
def connect_timeout(send_to_parent: Callable[..., None]) -> Iterator[None]:
    """Ends the process if the `with` block takes longer than _CONNECT_TIMEOUT_SECONDS.

    In the block, TensorFlow waits for the TensorFlow of the other workers and blocks all Python
    threads. Only a timer outside of Python can then end the process, and it cannot send a
    message. Therefore the reason is sent to the parent in advance and withdrawn at the end of
    the block.

    Args:
      send_to_parent: Sends a message to the parent process: `send(kind, **values)`.
    """
    message = f"TensorFlow did not connect the workers within {_CONNECT_TIMEOUT_SECONDS} s"
    send_to_parent("expected_end", reason="worker_lost", message=message)
    faulthandler.dump_traceback_later(_CONNECT_TIMEOUT_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        send_to_parent("expected_end", reason=None, message="")


class SingleWorker:
    """The interface of `WorkerGroup` for a run with a single worker."""

    def sync_start_of_run(self) -> None:
        """Does nothing."""

    def sync_stop_decision(self, stop: bool) -> bool:
        """Returns this process's own decision."""
        return stop

    def stop_monitoring(self) -> None:
        """Does nothing."""

    def sync_end_of_run(self, more: bool) -> bool:
        """Returns `more`: this process decides whether another run follows."""
        return more

    def announce_exit(self, reason: str, message: str, is_usage_error: bool) -> None:
        """Does nothing."""

    def peer_failure_reason(self, error: BaseException) -> str | None:
        """Returns None: no error can come from another worker."""
        return None


class WorkerGroup:
    """The connections of one worker to the other workers of a run.

    Args:
      cluster: Addresses of the workers.
      on_lost: Called at most once as `on_lost(message, is_usage_error)`, in another thread,
        when another worker is lost before the run has ended here. It must end this process.
        `is_usage_error` is true if the other worker ended because of a flag with an
        invalid value.

    Attributes:
      cluster: Addresses of the workers.
      is_chief: Whether this process is the chief.
    """

    def __init__(self, cluster: Cluster, on_lost: Callable[[str, bool], None]):
        self.cluster, self.is_chief = cluster, cluster.is_chief
        self._on_lost = on_lost
        # By worker index. The chief is connected to all other workers, they only to the chief.
        self._peers: dict[int, PeerConnection] = {}
        self._lock = threading.Lock()
        self._loss_message: str | None = None
        # The thread in `on_lost`, which ends this process because a worker is lost.
        self._exiting_thread: threading.Thread | None = None
        self._is_monitoring_stopped = False

    # -- rendezvous -----------------------------------------------------------

    def join(
        self, assignment: RunAssignment, fields: Mapping[str, Any], timeout_s: float
    ) -> RunAssignment:
        """Waits until all workers are connected, then starts to monitor them.

        Args:
          assignment: This worker's run number and seed; only the chief's are used.
          fields: JSON values that must be equal on all workers, by their name in messages.
          timeout_s: Longest wait in seconds.

        Returns:
          The chief's assignment.

        Raises:
          RendezvousError: Workers are missing or differ. Raised on every connected worker.
        """
        # A JSON round trip, as on the other side: tuples become lists.
        fields = json.loads(json.dumps(fields))
        if self.is_chief:
            connections = gather_workers(self.cluster, fields, timeout_s)
            for connection in connections.values():
                connection.send({"go": assignment._asdict()})
        else:
            answer, chief = report_to_chief(self.cluster, fields, timeout_s)
            assignment = RunAssignment(int(answer["run"]), int(answer["seed"]))
            connections = {0: chief}
        for worker, connection in connections.items():
            self._peers[worker] = PeerConnection(
                connection, self.cluster.name(worker), self._handle_lost_peer
            )
        # Start the reading threads only after `_peers` is complete: a thread that detects a lost
        # worker sends the reason to all peers.
        for peer in self._peers.values():
            peer.start()
        threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True).start()
        return assignment

    # -- the run --------------------------------------------------------------

    def sync_start_of_run(self) -> None:
        """Waits until the chief's clock runs.

        Raises:
          WorkerLost: The chief is lost. `sync_stop_decision` and `sync_end_of_run` also raise
            it.
        """
        self._broadcast_from_chief("begin", True)

    def sync_stop_decision(self, stop: bool) -> bool:
        """Returns whether the chief ends the run after this epoch.

        Args:
          stop: This worker's own decision; only the chief's is used.
        """
        if self.is_chief and stop:
            # All workers have completed the last epoch of the run. The chief no longer needs
            # the other workers, so a lost worker must not make the run fail.
            self.stop_monitoring()
        return bool(self._broadcast_from_chief("stop", stop))

    def stop_monitoring(self) -> None:
        """Marks the run as ended in this process; lost workers are then ignored.

        If another thread is already ending this process because a worker was lost, the caller
        must not continue, because it would write another reason to the log or end the process
        before that thread has closed the log. In this case, the method sleeps for
        END_WAIT_SECONDS, and the process normally ends during that time.
        """
        with self._lock:
            self._is_monitoring_stopped = True
            exiting_thread = self._exiting_thread
        if exiting_thread not in (None, threading.current_thread()):
            # That thread calls `os._exit` and never returns, so it cannot be joined. Sleep
            # instead until the exit. If the thread hangs, the caller continues after the sleep
            # and ends the process itself.
            time.sleep(END_WAIT_SECONDS)

    def sync_end_of_run(self, more: bool) -> bool:
        """Returns whether the chief starts another run.

        The chief returns when all workers have confirmed the answer. The others return when
        the chief's process has ended, so that their next process cannot connect to it.

        Args:
          more: Whether another run follows; only the chief's value is used.
        """
        self.stop_monitoring()
        is_followed = bool(self._broadcast_from_chief("more", more))
        if not self.is_chief:
            self._peers[0].send({"heard": True})
        for peer in self._peers.values():
            if self.is_chief:
                # A worker that is lost or does not confirm no longer affects the run.
                with contextlib.suppress(WorkerLost):
                    peer.receive_value("heard", END_WAIT_SECONDS)
            else:
                peer.wait_until_lost(END_WAIT_SECONDS)
        return is_followed

    def announce_exit(self, reason: str, message: str, is_usage_error: bool) -> None:
        """Sends the other workers the reason why this process ends before its run has ended.

        Args:
          reason: The reason in this worker's log.
          message: One line for the user.
          is_usage_error: Whether the cause is a flag with an invalid value. All workers
            have the same flags, so the others report it as their own usage error.
        """
        self.stop_monitoring()
        text = message if is_usage_error else f"{reason}: {message}"
        for peer in self._peers.values():
            peer.send({"leaves": text, "usage": is_usage_error})

    def peer_failure_reason(self, error: BaseException) -> str | None:
        """Determines whether an error in this process was caused by a lost worker.

        TensorFlow may detect the end of a worker before the connection to that worker breaks,
        so this method waits for a connection to break. When a connection breaks, a reading
        thread calls `on_lost`, which ends the process; this method then sleeps until the exit.

        Args:
          error: The error raised in this process during training.

        Returns:
          One line that names the lost worker; None if the error has another cause.
        """
        import tensorflow as tf

        error_classes = tuple(getattr(tf.errors, name) for name in _PEER_FAILURE_ERRORS)
        if not isinstance(error, (WorkerLost, *error_classes)):
            return None
        watch = Stopwatch()
        is_known = isinstance(error, WorkerLost)
        # If the lost worker is not known yet, wait longer than the time in which the silence of
        # a lost worker is detected.
        limit_s = 1.0 if is_known else SILENCE_LIMIT_SECONDS + 2 * HEARTBEAT_SECONDS
        while self._loss_message is None and watch.seconds() < limit_s:
            time.sleep(0.05)
            for peer in self._peers.values():
                silence_s = peer.seconds_since_message()
                if silence_s > _SUSPECT_SILENCE_SECONDS:
                    return f"{peer.name} was silent for {silence_s:.0f} s"
        if self._loss_message is not None:
            time.sleep(END_WAIT_SECONDS)
        return self._loss_message or (str(error) if is_known else None)

    def _broadcast_from_chief(self, key: str, value: Any) -> Any:
        """Sends the chief's value to all other workers; returns it on every worker."""
        if not self.is_chief:
            return self._peers[0].receive_value(key)
        for peer in self._peers.values():
            peer.send({key: value})
        return value

    def _handle_lost_peer(self, message: str, is_usage_error: bool) -> None:
        """Calls `on_lost` for the first lost worker; runs in the reading thread of that peer."""
        with self._lock:
            if self._loss_message is not None or self._is_monitoring_stopped:
                return
            self._loss_message, self._exiting_thread = message, threading.current_thread()
        self._on_lost(message, is_usage_error)

    def _send_heartbeats(self) -> None:
        """The body of the heartbeat thread, which runs until the process ends."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for peer in self._peers.values():
                peer.send({"beat": True})
