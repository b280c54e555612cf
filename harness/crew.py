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
import socket
import threading
import time
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from harness import provenance, system
from harness.clock import Stopwatch
from harness.cluster import PATIENCE_VARIABLE, Cluster, call, patience
from harness.trial_spec import TrialSpec
from harness.wire import BEAT_SECONDS, SILENCE_SECONDS, Link, Message, Wire, WorkerLost, open_door

# How long a process that has ended its part waits for the others to end theirs.
PARTING_SECONDS = 15.0
# Between two calls at a chief that is not there yet; for what a caller says first.
_PAUSE_SECONDS, _HELLO_SECONDS = 0.2, 10.0
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


class NotTogether(RuntimeError):
    """Workers that are not all there or not alike; the message is one line for the user."""


class Orders(NamedTuple):
    """What the chief tells of a run."""

    run: int
    seed: int


def what_must_agree(spec: TrialSpec) -> dict[str, Any]:
    """All that makes the same numbers, and the same trial, on every worker: JSON values by
    what messages call them."""
    packages = system.versions()
    return {
        **{f"the setting {name}": value for name, value in spec.config.set_settings().items()},
        "the number of runs so far": spec.ordinal,
        "the size of the dataset": [spec.num_users, spec.num_items, spec.num_positives],
        "the dataset": spec.split_digest,
        "the program's source": provenance.source_digest(),
        "the version of TensorFlow": sorted(
            version for name, version in packages.items() if name.startswith("tensorflow")
        ),
    }


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


def _gather(members: Cluster, agree: Message, seconds: float) -> dict[int, Wire]:
    """Wires to all other workers, which are alike. Raises NotTogether."""
    watch = Stopwatch()
    found: dict[int, Wire] = {}
    with _open_door(members) as door:
        while True:
            found = {worker: wire for worker, wire in found.items() if wire.is_open()}
            missing = sorted(set(range(1, members.num_workers)) - found.keys())
            if not missing:
                return found
            left = seconds - watch.seconds()
            if left <= 0:
                _refuse(found, _who_is_missing(members, missing, seconds))
            door.settimeout(min(left, 1.0))
            try:
                wire = Wire(door.accept()[0])
                hello = wire.receive(_HELLO_SECONDS) or {}
                worker, theirs = int(hello["worker"]), dict(hello["agree"])
            except (OSError, ValueError, TypeError, KeyError):
                continue  # nobody, or somebody else
            if worker in missing:
                found[worker] = wire
                why = _difference(members, worker, agree, theirs)
                if why is not None:
                    _refuse(found, why)


def _open_door(members: Cluster) -> socket.socket:
    try:
        return open_door(members.endpoint(0)[1])
    except OSError as error:
        raise NotTogether(
            f"{members.name(0)} cannot listen at its port: {error.strerror}"
        ) from None


def _refuse(found: Mapping[int, Wire], why: str) -> None:
    """Tells all who are there, and raises it here."""
    for wire in found.values():
        wire.send({"refused": why})
    raise NotTogether(why)


def _difference(members: Cluster, worker: int, ours: Message, theirs: Message) -> str | None:
    """The first thing that a worker is about to do otherwise than the chief, in words."""
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name), theirs.get(name)
        if mine != other:
            values = f": {other} and {mine}" if len(f"{mine}{other}") <= 40 else ""
            return (
                f"{members.name(worker)} and {members.name(0)} differ in {name}{values}; start "
                "every worker with the same flags, data and program"
            )
    return None


def _who_is_missing(members: Cluster, missing: list[int], seconds: float) -> str:
    names = ", ".join(members.name(worker) for worker in missing)
    return (
        f"not all {members.num_workers} workers came within {seconds:g} s: {names} did not; "
        f"start the same command on each, or wait longer with {PATIENCE_VARIABLE}"
    )


# -- the others' way to it ----------------------------------------------------


def _report(members: Cluster, agree: Message, seconds: float) -> tuple[Message, Wire]:
    """(the chief's orders, the wire to it). Raises NotTogether."""
    watch = Stopwatch()
    while (left := seconds - watch.seconds()) > 0:
        try:
            wire = Wire(call(members, 0))
            wire.send({"worker": members.index, "agree": agree})
            # The chief answers when it has heard all, or will not wait any longer for them.
            answer = wire.receive(left + _HELLO_SECONDS) or {}
        except (OSError, ValueError):
            answer = {}
        if "refused" in answer:
            raise NotTogether(str(answer["refused"]))
        if "go" in answer:
            return answer["go"], wire
        # Nobody, or somebody else, as the chief's process of the last run.
        time.sleep(_PAUSE_SECONDS)
    raise NotTogether(
        f"{members.name(0)} did not let this worker in within {seconds:g} s; start the same "
        f"command on each worker, or wait longer with {PATIENCE_VARIABLE}"
    )
