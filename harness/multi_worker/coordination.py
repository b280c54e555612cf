"""Coordination of the worker processes that train one run together.

Before TensorFlow connects the workers, each of them connects to the chief (see
`rendezvous`). These connections stay open beside TensorFlow's own for as long as the
processes live. When a process ends, the operating system closes its connections, so the
others notice at once. A process that hangs or has lost the network sends no heartbeats any
more, so the others notice within SILENCE_LIMIT_SECONDS. Neither depends on how TensorFlow
reports a lost peer. `connection` lists the messages.

A run calls the methods of `WorkerGroup` in this order, and all workers call the same ones:

    join                 all workers are connected and agree; the chief sends run and seed
    sync_start_of_run    the chief's clock runs; before, no worker may read the dataset
    sync_stop_decision   after each epoch: does the chief end the run?
    sync_end_of_run      the chief's log is closed: does another run follow?
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

# How long a process that is about to end waits for another process to end, or for another of
# its own threads to end the process.
END_WAIT_SECONDS = 15.0
# When TensorFlow reports a lost peer without naming it, a worker that has been silent for this
# long is taken to be the lost worker.
_SUSPECT_SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
# The classes in `tf.errors` that TensorFlow raises where a peer is lost.
_PEER_FAILURE_ERRORS = (
    "AbortedError", "CancelledError", "DeadlineExceededError", "FailedPreconditionError",
    "InternalError", "UnavailableError",
)  # fmt: skip
# How long TensorFlow may take to connect the workers after their rendezvous. It is less than
# SILENCE_LIMIT_SECONDS, because no heartbeat can be sent during that time.
_CONNECT_TIMEOUT_SECONDS = 35


def rendezvous(
    spec: TrialSpec, cluster: Cluster, on_lost: Callable[[str, bool], None]
) -> tuple[WorkerGroup, TrialSpec]:
    """Connects all workers of a run and takes over the chief's run number and seed.

    Args:
      spec: The trial of this worker.
      cluster: Addresses of the workers.
      on_lost: See `WorkerGroup`.

    Returns:
      (The connected workers, the trial with the chief's run number and seed.)

    Raises:
      RendezvousError: Workers are missing or differ before the first run.
      WorkerLost: The same before a later run, where all were connected once.
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
    """A block that ends the process if it takes longer than _CONNECT_TIMEOUT_SECONDS.

    In the block TensorFlow waits for the other workers' TensorFlow and lets no other Python
    thread run. Only a timer outside of Python can end the process then, and it cannot send a
    message. So the parent gets the reason in advance, and the reason is withdrawn at the end of
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
    """The interface of `WorkerGroup` for a run that has no other workers."""

    def sync_start_of_run(self) -> None:
        """Does nothing."""

    def sync_stop_decision(self, stop: bool) -> bool:
        """Returns this process's own decision."""
        return stop

    def stop_monitoring(self) -> None:
        """Does nothing."""

    def sync_end_of_run(self, more: bool) -> bool:
        """Returns `more`, since this process knows whether another run follows."""
        return more

    def announce_exit(self, reason: str, message: str, is_usage_error: bool) -> None:
        """Does nothing."""

    def peer_failure_reason(self, error: BaseException) -> str | None:
        """Returns None: no error can come from another worker."""
        return None


class WorkerGroup:
    """All workers of a run, as seen from one of them.

    Args:
      cluster: Addresses of the workers.
      on_lost: Called at most once as `on_lost(message, is_usage_error)`, in another thread,
        when another worker is lost before the run has ended here. It must end this process.
        `is_usage_error` is true where the other worker ended because of a flag with an
        impossible value.

    Attributes:
      cluster: As given.
      is_chief: Whether this process is the chief.
    """

    def __init__(self, cluster: Cluster, on_lost: Callable[[str, bool], None]):
        self.cluster, self.is_chief = cluster, cluster.is_chief
        self._on_lost = on_lost
        # By worker index. The chief has all other workers, the others have the chief alone.
        self._peers: dict[int, PeerConnection] = {}
        self._lock = threading.Lock()
        self._loss_message: str | None = None
        # The thread that is in `on_lost` and ends this process because a worker is lost.
        self._exiting_thread: threading.Thread | None = None
        self._is_monitoring_stopped = False

    # -- rendezvous -----------------------------------------------------------

    def join(
        self, assignment: RunAssignment, fields: Mapping[str, Any], timeout_s: float
    ) -> RunAssignment:
        """Waits until all workers are connected, and starts to monitor them.

        Args:
          assignment: This worker's run number and seed; only the chief's count.
          fields: JSON values that must be equal on all workers, by their name in messages.
          timeout_s: Longest wait in seconds.

        Returns:
          The chief's assignment.

        Raises:
          RendezvousError: Workers are missing or differ. Raised on every connected worker.
        """
        # As the other side decodes them: tuples become lists.
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
        # The reading threads start only now: where one of them notices a lost worker, the
        # reason is sent to all of `_peers`.
        for peer in self._peers.values():
            peer.start()
        threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True).start()
        return assignment

    # -- the run --------------------------------------------------------------

    def sync_start_of_run(self) -> None:
        """Waits until the chief's clock runs.

        Raises:
          WorkerLost: The chief is lost. `sync_stop_decision` and `sync_end_of_run` raise it,
            too.
        """
        self._broadcast_from_chief("begin", True)

    def sync_stop_decision(self, stop: bool) -> bool:
        """Returns whether the chief ends the run after this epoch.

        Args:
          stop: This worker's own decision; only the chief's counts.
        """
        if self.is_chief and stop:
            # All workers took part in the epoch that ends the run. From here on the chief
            # needs none of them, so a lost worker must not end the run as a failure.
            self.stop_monitoring()
        return bool(self._broadcast_from_chief("stop", stop))

    def stop_monitoring(self) -> None:
        """Marks the run as ended here: from now on a lost worker is ignored.

        If another thread is already ending this process because a worker was lost, the caller
        must not go on, because it would write another reason to the log or end the process
        before that thread has closed the log. This method then sleeps for END_WAIT_SECONDS,
        and the process normally ends meanwhile.
        """
        with self._lock:
            self._is_monitoring_stopped = True
            exiting_thread = self._exiting_thread
        if exiting_thread not in (None, threading.current_thread()):
            # That thread never returns: it ends with `os._exit`. So there is no end of the
            # thread to wait for, and a sleep that the exit cuts off does the same. If the thread
            # hangs, the caller goes on after the sleep and ends the process itself.
            time.sleep(END_WAIT_SECONDS)

    def sync_end_of_run(self, more: bool) -> bool:
        """Returns whether the chief makes another run.

        The chief returns when all workers have confirmed the answer. The others return when
        the chief's process has ended, so that their next process cannot connect to it.

        Args:
          more: Whether another run follows; only the chief knows.
        """
        self.stop_monitoring()
        is_followed = bool(self._broadcast_from_chief("more", more))
        if not self.is_chief:
            self._peers[0].send({"heard": True})
        for peer in self._peers.values():
            if self.is_chief:
                # A worker that is lost or does not confirm changes nothing any more.
                with contextlib.suppress(WorkerLost):
                    peer.receive_value("heard", END_WAIT_SECONDS)
            else:
                peer.wait_until_lost(END_WAIT_SECONDS)
        return is_followed

    def announce_exit(self, reason: str, message: str, is_usage_error: bool) -> None:
        """Tells the other workers that this process ends before its run has ended, and why.

        Args:
          reason: The reason in this worker's log.
          message: One line for the user.
          is_usage_error: Whether the cause is a flag with an impossible value. All workers
            have the same flags, so the others report it as their own usage error.
        """
        self.stop_monitoring()
        text = message if is_usage_error else f"{reason}: {message}"
        for peer in self._peers.values():
            peer.send({"leaves": text, "usage": is_usage_error})

    def peer_failure_reason(self, error: BaseException) -> str | None:
        """Finds out whether an error in this process was caused by a lost worker.

        TensorFlow may notice the end of a worker before the connection to that worker breaks.
        So this method waits for a connection to break. When one breaks, a reading thread calls
        `on_lost`, which ends the process; this method then sleeps until that has happened.

        Args:
          error: Raised in this process while it trained.

        Returns:
          One line that names the lost worker; None where the error has another cause.
        """
        import tensorflow as tf

        error_classes = tuple(getattr(tf.errors, name) for name in _PEER_FAILURE_ERRORS)
        if not isinstance(error, (WorkerLost, *error_classes)):
            return None
        watch = Stopwatch()
        is_known = isinstance(error, WorkerLost)
        # Where the lost worker is not known yet, wait longer than it takes to notice any lost
        # worker by its silence.
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
        """The chief sends its value to all others; returns the chief's value everywhere."""
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
        """The body of the heartbeat thread, which ends with the process."""
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for peer in self._peers.values():
                peer.send({"beat": True})
