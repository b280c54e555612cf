"""How the processes of one run on several workers go together.

Before TensorFlow connects, every worker's process calls at the chief's address; the chief
compares what they are about to do, tells them run number and seed, and frees its port for
TensorFlow. These connections stay open beside TensorFlow's as long as the processes live.
So whoever goes is missed at once, and who hangs or lost the network is missed by its
heartbeat, whatever TensorFlow makes of it. In order:

    join      all are there and alike; the chief tells run number and seed
    begin     the chief's clock runs; before, no worker may touch the dataset
    decide    after each epoch: does the chief end the run?
    part      the chief's log is closed: does another run follow?
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
from harness.devices.tf_config import Cluster, patience
from harness.multi_worker.connection import (
    BEAT_SECONDS,
    SILENCE_SECONDS,
    Link,
    WorkerLost,
)
from harness.multi_worker.rendezvous import NotTogether, Orders, _gather, _report, what_must_agree

# How long a process that has ended its part waits for the others to end theirs.
PARTING_SECONDS = 15.0
# Who was silent as long is who TensorFlow says is gone.
_QUIET_SECONDS = 4 * BEAT_SECONDS
# What TensorFlow makes of a peer that is gone.
_ERRORS_OF_PEERS = (
    "AbortedError", "CancelledError", "DeadlineExceededError", "FailedPreconditionError",
    "InternalError", "UnavailableError",
)  # fmt: skip
# How long TensorFlow may take to connect workers that are all there; below SILENCE_SECONDS,
# since nothing can be said meanwhile.
_CONNECT_SECONDS = 35


def come_together(
    spec: TrialSpec, members: Cluster, on_lost: Callable[[str, bool], None]
) -> tuple[Crew, TrialSpec]:
    """The crew, once all are there, and the spec with the chief's run number and seed.

    Raises NotTogether, or WorkerLost where they have been together before.
    """
    crew, first = Crew(members, on_lost), spec.ordinal == 0
    mine = Orders(spec.run, spec.seed)
    try:
        orders = crew.join(mine, what_must_agree(spec), patience(first))
    except NotTogether as error:
        if first:
            raise
        raise WorkerLost(str(error)) from error
    return crew, dataclasses.replace(spec, **orders._asdict())


@contextlib.contextmanager
def connecting(tell: Callable[..., None]) -> Iterator[None]:
    """Ends the process where the block takes too long. In it TensorFlow waits for the other
    workers' TensorFlow and lets no other thread run, so only a timer outside of Python can,
    and what is then to be said is told to the parent before."""
    message = f"TensorFlow did not connect the workers within {_CONNECT_SECONDS} s"
    tell("will", reason="worker_lost", message=message)
    faulthandler.dump_traceback_later(_CONNECT_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        tell("will", reason=None, message="")


class Alone:
    """A run without other workers has nobody to agree with."""

    def begin(self) -> None:
        pass

    def decide(self, stop: bool) -> bool:
        return stop

    def rest(self) -> None:
        pass

    def part(self, more: bool) -> bool:
        return more

    def leave(self, reason: str, message: str, usage: bool) -> None:
        pass

    def why_lost(self, error: BaseException) -> str | None:
        return None


class Crew:
    """The workers of a run, seen from one of them.

    `on_lost(message, usage)` is called once, in a thread of its own, when another worker is
    gone before the run has ended here, and ends this process; `usage` where the other one
    met a flag that cannot be.
    """

    def __init__(self, members: Cluster, on_lost: Callable[[str, bool], None]):
        self.members, self.is_chief = members, members.is_chief
        self._on_lost = on_lost
        self._links: dict[int, Link] = {}
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._ender: threading.Thread | None = None
        self._over = False

    # -- coming together ------------------------------------------------------

    def join(self, orders: Orders, agree: Mapping[str, Any], seconds: float) -> Orders:
        """Waits until all are there; returns the chief's orders.

        agree: JSON values that must be the same on all workers, by what they are called.
        Raises NotTogether, on every worker that is there, when `seconds` have passed or
        workers are not alike.
        """
        agree = json.loads(json.dumps(agree))
        if self.is_chief:
            wires = _gather(self.members, agree, seconds)
            for wire in wires.values():
                wire.send({"go": orders._asdict()})
        else:
            go, chief = _report(self.members, agree, seconds)
            orders, wires = Orders(int(go["run"]), int(go["seed"])), {0: chief}
        for worker, wire in wires.items():
            self._links[worker] = Link(wire, self.members.name(worker), self._miss)
        for link in self._links.values():
            link.start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return orders

    # -- going together -------------------------------------------------------

    def begin(self) -> None:
        """Returns when the chief's clock runs. Raises WorkerLost, as all that follow."""
        self._from_chief("begin", True)

    def decide(self, stop: bool) -> bool:
        """Whether the chief ends the run after this epoch."""
        if self.is_chief and stop:
            self.rest()  # all were there when it was measured
        return bool(self._from_chief("stop", stop))

    def rest(self) -> None:
        """The run has ended here; who goes now is not missed.

        Where `on_lost` is ending the process already, in another thread, this leaves it to
        that: of two that end one process the first to exit would cut the other short.
        """
        with self._lock:
            self._over = True
            ender = self._ender
        if ender not in (None, threading.current_thread()):
            time.sleep(PARTING_SECONDS)

    def part(self, more: bool) -> bool:
        """Whether the chief makes another run. The chief returns when all have heard it, the
        others when its process has ended, so that their next one cannot meet it."""
        self.rest()
        follows = bool(self._from_chief("more", more))
        if not self.is_chief:
            self._links[0].send({"heard": True})
        for link in self._links.values():
            with contextlib.suppress(WorkerLost):
                link.receive("heard" if self.is_chief else "nothing more", PARTING_SECONDS)
        return follows

    def leave(self, reason: str, message: str, usage: bool) -> None:
        """This process ends before its run has; the others are told why."""
        self.rest()
        for link in self._links.values():
            link.send({"leaves": message if usage else f"{reason}: {message}", "usage": usage})

    def why_lost(self, error: BaseException) -> str | None:
        """What is to be said where `error` came of another worker's end, else None.

        TensorFlow may notice it first, so this waits until it is known here too. A broken
        connection has `on_lost` end the process, and this leaves it to that.
        """
        import tensorflow as tf

        kinds = tuple(getattr(tf.errors, name) for name in _ERRORS_OF_PEERS)
        if not isinstance(error, (WorkerLost, *kinds)):
            return None
        watch = Stopwatch()
        limit = 1.0 if isinstance(error, WorkerLost) else SILENCE_SECONDS + 2 * BEAT_SECONDS
        while self._lost is None and watch.seconds() < limit:
            time.sleep(0.05)
            quiet = [link for link in self._links.values() if link.silence() > _QUIET_SECONDS]
            if quiet:
                return f"{quiet[0].name} was silent for {quiet[0].silence():.0f} s"
        if self._lost is not None:
            time.sleep(PARTING_SECONDS)
        return self._lost or (str(error) if isinstance(error, WorkerLost) else None)

    def _from_chief(self, key: str, value: Any) -> Any:
        """The chief says it, the others hear what it says."""
        if not self.is_chief:
            return self._links[0].receive(key)
        for link in self._links.values():
            link.send({key: value})
        return value

    def _miss(self, message: str, usage: bool) -> None:
        """A link broke."""
        with self._lock:
            if self._lost is not None or self._over:
                return
            self._lost, self._ender = message, threading.current_thread()
        self._on_lost(message, usage)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            for link in self._links.values():
                link.send({"beat": True})


# -- the chief's door ---------------------------------------------------------


# -- the others' way to it ----------------------------------------------------


