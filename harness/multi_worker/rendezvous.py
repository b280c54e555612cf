"""TODO."""

from __future__ import annotations

import socket
import time
from typing import Any, Mapping, NamedTuple

from harness.base import machine
from harness.base.clock import Stopwatch
from harness.config.trial_spec import TrialSpec
from harness.devices.tf_config import PATIENCE_VARIABLE, Cluster, call
from harness.logs import provenance
from harness.multi_worker.connection import (
    Message,
    Wire,
    open_door,
)

# Between two calls at a chief that is not there yet; for what a caller says first.
_PAUSE_SECONDS = 0.2


_HELLO_SECONDS = 10.0


class NotTogether(RuntimeError):
    """Workers that are not all there or not alike; the message is one line for the user."""


class Orders(NamedTuple):
    """What the chief tells of a run."""

    run: int
    seed: int


def what_must_agree(spec: TrialSpec) -> dict[str, Any]:
    """All that makes the same numbers, and the same trial, on every worker: JSON values by
    what messages call them."""
    packages = machine.versions()
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
