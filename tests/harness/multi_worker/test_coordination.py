"""Workers of one run: rendezvous, decisions of the chief, lost workers.

The workers are threads of this process, connected over the loopback interface.
"""

from __future__ import annotations

import queue
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from harness.devices.tf_config import Cluster
from harness.multi_worker.connection import JsonConnection, WorkerLost
from harness.multi_worker.coordination import WorkerGroup
from harness.multi_worker.rendezvous import RendezvousError, RunAssignment
from tests.support.runs.worker_runs import addresses

SETTINGS = {"the setting batch_size": 64, "the dataset": "abc"}


class Workers:
    """`count` worker groups, one per worker; `lost` has the arguments of each `on_lost`."""

    def __init__(self, count: int):
        workers = tuple(addresses(count))
        self.lost: list[queue.Queue] = [queue.Queue() for _ in workers]
        self.groups = [
            WorkerGroup(Cluster(workers, k), lambda *loss, k=k: self.lost[k].put(loss))
            for k in range(count)
        ]
        self._pool = ThreadPoolExecutor(count)

    def submit(self, function, *arguments) -> Future:
        """Calls the function in a separate thread."""
        return self._pool.submit(function, *arguments)

    def join(self, timeout_s: float = 20.0, **different: dict) -> list[Future]:
        """Lets all join at once; `different` are settings of worker1, worker2, ..."""
        return [
            self.submit(
                group.join, RunAssignment(7, 2**62 + k),
                {**SETTINGS, **different.get(f"worker{k}", {})}, timeout_s,
            )
            for k, group in enumerate(self.groups)
        ]  # fmt: skip

    def joined(self) -> "Workers":
        """Waits until all workers have joined; returns self."""
        self.assignments = [future.result(30) for future in self.join()]
        return self

    def call_all(self, function) -> list:
        """Makes the same call on all workers at once."""
        futures = [self.submit(function, group) for group in self.groups]
        return [future.result(30) for future in futures]

    def wait_for_loss(self, worker: int) -> tuple[str, bool]:
        """Waits for a worker's `on_lost`; returns its arguments."""
        return self.lost[worker].get(timeout=30)


class TestRendezvous:
    def test_all_workers_take_the_chiefs_run_and_seed(self):
        assert Workers(3).joined().assignments == [RunAssignment(7, 2**62)] * 3

    def test_a_different_setting_is_named_on_all_workers(self):
        calls = Workers(3).join(worker2={"the setting batch_size": 65})
        for call in (calls[0], calls[2]):
            message = "worker 2 .* differ in .*batch_size: 65 and 64"
            with pytest.raises(RendezvousError, match=message):
                call.result(30)

    def test_a_setting_that_one_worker_lacks_is_a_difference(self):
        calls = Workers(2).join(worker1={"the setting new": 1})
        for call in calls:
            with pytest.raises(RendezvousError, match="the setting new: 1 and None"):
                call.result(30)

    def test_a_missing_worker_is_named_on_all_connected_workers(self):
        workers = Workers(3)
        workers.groups.pop()
        for call in workers.join(timeout_s=1.0):
            with pytest.raises(RendezvousError, match=r"within 1 s: worker 2 \(\S+\) did not"):
                call.result(30)

    def test_workers_without_a_chief_stop_waiting(self):
        workers = Workers(2)
        workers.groups.pop(0)
        (call,) = workers.join(timeout_s=0.5)
        with pytest.raises(RendezvousError, match="the chief .* did not accept this worker"):
            call.result(30)

    def test_a_stranger_at_the_chiefs_port_is_ignored(self):
        workers = Workers(2)
        chief, *others = workers.groups
        call = workers.submit(chief.join, RunAssignment(0, 1), SETTINGS, 20.0)
        strange_bytes = (
            b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"[" * 100_000 + b"\n",
            b'{"worker": 9, "agree": {}}\n', b"",
        )  # fmt: skip
        for sent in strange_bytes:
            stranger = connect_to_chief(chief.cluster)
            stranger.sendall(sent)
            stranger.close()
        joined = others[0].join(RunAssignment(5, 5), SETTINGS, 20.0)
        assert joined == call.result(30) == RunAssignment(0, 1)

    def test_a_restarted_worker_replaces_its_earlier_process(self):
        workers = Workers(3)
        chief, first, second = workers.groups
        call = workers.submit(chief.join, RunAssignment(0, 1), SETTINGS, 20.0)
        connected = connect_to_chief(chief.cluster)
        JsonConnection(connected).send({"worker": 1, "agree": SETTINGS})
        time.sleep(0.2)
        connected.close()
        calls = [
            workers.submit(group.join, RunAssignment(0, 0), SETTINGS, 20.0)
            for group in (first, second)
        ]
        assert [one.result(30) for one in (call, *calls)] == [RunAssignment(0, 1)] * 3

    def test_the_chiefs_port_is_free_after_the_rendezvous(self):
        workers = Workers(2).joined()
        port = workers.groups[0].cluster.endpoint(0)[1]
        socket.create_server(("", port)).close()


def close_connections(group: WorkerGroup) -> None:
    """Closes all connections of a worker, as the end of its process does."""
    for peer in group._peers.values():
        peer._connection._socket.shutdown(socket.SHUT_RDWR)


def connect_to_chief(cluster: Cluster) -> socket.socket:
    """Returns a connection to the chief, as soon as it listens."""
    for _ in range(200):
        try:
            return socket.create_connection(cluster.endpoint(0), 5)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the chief does not listen")


class TestDuringTheRun:
    def test_the_chief_decides_when_the_run_ends(self):
        workers = Workers(3).joined()
        workers.call_all(WorkerGroup.sync_start_of_run)
        for stop in (False, False, True):
            decisions = workers.call_all(
                lambda group: group.sync_stop_decision(stop if group.is_chief else not stop)
            )
            assert decisions == [stop] * 3

    @pytest.mark.parametrize("more", [True, False])
    def test_the_others_end_the_run_when_the_chiefs_process_has_ended(self, more):
        workers = Workers(3).joined()
        others = [workers.submit(group.sync_end_of_run, not more) for group in workers.groups[1:]]
        assert workers.groups[0].sync_end_of_run(more) is more
        time.sleep(0.2)
        assert not any(call.done() for call in others)
        close_connections(workers.groups[0])
        assert [call.result(30) for call in others] == [more, more]

    def test_no_worker_starts_before_the_chief(self):
        workers = Workers(2).joined()
        call = workers.submit(workers.groups[1].sync_start_of_run)
        time.sleep(0.2)
        assert not call.done()
        workers.groups[0].sync_start_of_run()
        call.result(30)

    def test_a_message_out_of_step_is_an_error(self):
        workers = Workers(2).joined()
        workers.groups[0].sync_start_of_run()
        with pytest.raises(WorkerLost, match="out of step"):
            workers.groups[1].sync_stop_decision(False)


class TestLostWorkers:
    def test_a_worker_that_ends_is_reported_with_its_reason(self):
        workers = Workers(3).joined()
        workers.groups[2].announce_exit("interrupted", "stopped by SIGTERM", False)
        message, is_usage_error = workers.wait_for_loss(0)
        assert "worker 2 (" in message
        assert message.endswith("ended: interrupted: stopped by SIGTERM")
        assert is_usage_error is False

    def test_an_impossible_flag_is_a_usage_error_on_all_workers(self):
        workers = Workers(2).joined()
        workers.groups[0].announce_exit("exception", "--engine=x: there is none", True)
        assert workers.wait_for_loss(1) == ("--engine=x: there is none", True)

    def test_a_broken_connection_is_a_lost_worker(self):
        workers = Workers(2).joined()
        close_connections(workers.groups[1])
        assert workers.wait_for_loss(0)[0].endswith("is gone")

    def test_after_the_end_of_the_run_a_lost_worker_is_ignored(self):
        workers = Workers(2).joined()
        workers.groups[0].sync_stop_decision(True)
        workers.groups[1].announce_exit("killed", "", False)
        time.sleep(0.3)
        assert workers.lost[0].empty()
