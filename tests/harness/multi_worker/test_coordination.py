"""How workers come together, go together and miss each other; here they are threads."""

from __future__ import annotations

import queue
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from harness.devices.tf_config import Cluster
from harness.multi_worker.connection import Wire, WorkerLost
from harness.multi_worker.coordination import Crew
from harness.multi_worker.rendezvous import NotTogether, Orders
from tests.support.runs.worker_runs import addresses

SETTINGS = {"the setting batch_size": 64, "the dataset": "abc"}


class Workers:
    """`count` crews at addresses of their own; what each of them missed is in `lost`."""

    def __init__(self, count: int):
        workers = tuple(addresses(count))
        self.lost: list[queue.Queue] = [queue.Queue() for _ in workers]
        self.crews = [
            Crew(Cluster(workers, k), lambda *said, k=k: self.lost[k].put(said))
            for k in range(count)
        ]
        self._pool = ThreadPoolExecutor(count)

    def join(self, seconds: float = 20.0, **differs: dict) -> list[Future]:
        """All of them call at once; `differs` are settings of worker1, worker2, ..."""
        return [
            self._pool.submit(
                crew.join, Orders(7, 2**62 + k), {**SETTINGS, **differs.get(f"worker{k}", {})},
                seconds,
            )
            for k, crew in enumerate(self.crews)
        ]  # fmt: skip

    def together(self) -> "Workers":
        self.orders = [one.result(30) for one in self.join()]
        return self

    def all(self, what) -> list:
        """The same call on each of them at once."""
        calls = [self._pool.submit(what, crew) for crew in self.crews]
        return [one.result(30) for one in calls]

    def missed(self, worker: int) -> tuple[str, bool]:
        return self.lost[worker].get(timeout=30)


class TestComingTogether:
    def test_all_take_the_chiefs_orders(self):
        assert Workers(3).together().orders == [Orders(7, 2**62)] * 3

    def test_a_setting_that_differs_is_named_on_all(self):
        calls = Workers(3).join(worker2={"the setting batch_size": 65})
        for call in (calls[0], calls[2]):
            with pytest.raises(NotTogether, match="worker 2 .* differ in .*batch_size: 65 and 64"):
                call.result(30)

    def test_a_setting_that_one_version_does_not_have_differs(self):
        calls = Workers(2).join(worker1={"the setting new": 1})
        for call in calls:
            with pytest.raises(NotTogether, match="the setting new: 1 and None"):
                call.result(30)

    def test_who_does_not_come_is_named_to_all_who_did(self):
        workers = Workers(3)
        workers.crews.pop()
        for call in workers.join(seconds=1.0):
            with pytest.raises(NotTogether, match=r"within 1 s: worker 2 \(\S+\) did not"):
                call.result(30)

    def test_without_a_chief_the_others_do_not_wait_for_ever(self):
        workers = Workers(2)
        workers.crews.pop(0)
        (call,) = workers.join(seconds=0.5)
        with pytest.raises(NotTogether, match="the chief .* did not let this worker in"):
            call.result(30)

    def test_who_calls_and_says_something_else_is_not_let_in(self):
        workers = Workers(2)
        chief, *others = workers.crews
        call = workers._pool.submit(chief.join, Orders(0, 1), SETTINGS, 20.0)
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"[" * 100_000 + b"\n", b'{"worker": 9, "agree": {}}\n', b""):
            stranger = knock(chief.members)
            stranger.sendall(said)
            stranger.close()
        assert others[0].join(Orders(5, 5), SETTINGS, 20.0) == call.result(30) == Orders(0, 1)

    def test_a_worker_that_is_started_again_takes_its_place(self):
        workers = Workers(3)
        chief, first, second = workers.crews
        call = workers._pool.submit(chief.join, Orders(0, 1), SETTINGS, 20.0)
        gone = Wire(knock(chief.members))
        gone.send({"worker": 1, "agree": SETTINGS})
        time.sleep(0.2)
        gone.close()
        calls = [workers._pool.submit(c.join, Orders(0, 0), SETTINGS, 20.0) for c in (first, second)]
        assert [c.result(30) for c in (call, *calls)] == [Orders(0, 1)] * 3

    def test_the_port_is_free_again_for_who_comes_next(self):
        workers = Workers(2).together()
        port = workers.crews[0].members.endpoint(0)[1]
        socket.create_server(("", port)).close()


def hang_up(crew: Crew) -> None:
    """As when its process ends."""
    for link in crew._links.values():
        link._wire._socket.shutdown(socket.SHUT_RDWR)


def knock(members: Cluster) -> socket.socket:
    """A connection to the chief, once it listens."""
    for _ in range(200):
        try:
            return socket.create_connection(members.endpoint(0), 5)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nobody listens")


class TestGoingTogether:
    def test_the_chief_decides(self):
        workers = Workers(3).together()
        workers.all(Crew.begin)
        for stop in (False, False, True):
            assert workers.all(lambda c: c.decide(stop if c.is_chief else not stop)) == [stop] * 3

    @pytest.mark.parametrize("more", [True, False])
    def test_the_others_part_when_the_chief_has_gone(self, more):
        workers = Workers(3).together()
        others = [workers._pool.submit(crew.part, not more) for crew in workers.crews[1:]]
        assert workers.crews[0].part(more) is more
        time.sleep(0.2)
        assert not any(call.done() for call in others)
        hang_up(workers.crews[0])
        assert [call.result(30) for call in others] == [more, more]

    def test_nobody_begins_before_the_chief(self):
        workers = Workers(2).together()
        call = workers._pool.submit(workers.crews[1].begin)
        time.sleep(0.2)
        assert not call.done()
        workers.crews[0].begin()
        call.result(30)

    def test_a_word_out_of_step_is_not_taken_for_another(self):
        workers = Workers(2).together()
        workers.crews[0].begin()
        with pytest.raises(WorkerLost, match="out of step"):
            workers.crews[1].decide(False)


class TestMissing:
    def test_who_leaves_is_missed_with_what_it_said(self):
        workers = Workers(3).together()
        workers.crews[2].leave("interrupted", "stopped by SIGTERM", False)
        message, usage = workers.missed(0)
        assert "worker 2 (" in message and message.endswith("ended: interrupted: stopped by SIGTERM")
        assert usage is False

    def test_a_flag_that_cannot_be_is_everybodys(self):
        workers = Workers(2).together()
        workers.crews[0].leave("exception", "--engine=x: there is none", True)
        assert workers.missed(1) == ("--engine=x: there is none", True)

    def test_a_broken_connection_is_a_lost_worker(self):
        workers = Workers(2).together()
        hang_up(workers.crews[1])
        assert workers.missed(0)[0].endswith("is gone")

    def test_after_the_end_nobody_is_missed(self):
        workers = Workers(2).together()
        workers.crews[0].decide(True)
        workers.crews[1].leave("killed", "", False)
        time.sleep(0.3)
        assert workers.lost[0].empty()
