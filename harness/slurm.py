"""`python -m harness.slurm`: prints the TF_CONFIG of this task of a SLURM job step.

One worker per task: `srun` starts the same command on every node, and this turns the
SLURM_* variables of each task into the value that `harness.devices.tf_config` reads:

    export TF_CONFIG="$(python -m harness.slurm)" && exec python -m harness ...

The list of nodes is expanded here, so no `scontrol` is needed. Ports follow from the
job's number, so that jobs which share a node do not meet; NEUMF_PORT sets the first one.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from typing import Mapping, Sequence

from harness.base import exit_codes

# Below the ports that Linux gives to outgoing connections (from 32768).
_FIRST_PORT, _JOBS, _PORTS_OF_A_JOB = 12_000, 2_500, 8
_MAX_NODES = 100_000
_NODES = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


class SlurmError(ValueError):
    """Variables that describe no job step; the message is one line."""


def expand_nodes(text: str) -> list[str]:
    """The host names of a node list such as "gpu[01-03,7],login"."""
    names: list[str] = []
    if _NODES.sub("", text).strip(","):
        raise SlurmError(f"{text!r} is not a list of nodes")
    for word in _NODES.findall(text):
        parts = [
            _numbers(brackets) if brackets else [plain] for brackets, plain in _PART.findall(word)
        ]
        some = itertools.islice(itertools.product(*parts), _MAX_NODES + 1)
        names += ("".join(name) for name in some)
        if len(names) > _MAX_NODES:
            raise SlurmError(f"{text!r} names more than {_MAX_NODES} nodes")
    return names


def _numbers(text: str) -> list[str]:
    """What stands in brackets, "01-03,7", with the zeros in front that it has there."""
    found: list[str] = []
    for word in text.split(","):
        match = _RANGE.fullmatch(word)
        if match is None:
            raise SlurmError(f"[{text}] is no range of nodes")
        first, last = match.group(1), match.group(2) or match.group(1)
        if int(last) - int(first) >= _MAX_NODES:
            raise SlurmError(f"[{text}] names more than {_MAX_NODES} nodes")
        found += (str(k).zfill(len(first)) for k in range(int(first), int(last) + 1))
    return found


def tasks_per_node(text: str) -> list[int]:
    """The counts in a list such as "2(x3),1": [2, 2, 2, 1]."""
    counts: list[int] = []
    for word in text.split(","):
        match = _TASKS.fullmatch(word)
        if match is None or int(match.group(2) or 1) > _MAX_NODES:
            raise SlurmError(f"{text!r} is no list of tasks on each node")
        counts += [int(match.group(1))] * int(match.group(2) or 1)
    return counts


def tf_config(environment: Mapping[str, str]) -> str:
    """The TF_CONFIG of the task whose variables these are. Raises SlurmError."""
    nodes = expand_nodes(_first(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"))
    counts = tasks_per_node(
        _first(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    )
    if len(nodes) != len(counts):
        raise SlurmError(f"{len(nodes)} nodes, but numbers of tasks for {len(counts)}")
    port = _port(environment)
    places = [(n, k) for n, count in enumerate(counts) for k in range(count)]
    index = _number(environment, "SLURM_PROCID")
    if index >= len(places):
        raise SlurmError(f"SLURM_PROCID is {index}, but there are {len(places)} tasks")
    if "SLURM_NODEID" in environment and places[index][0] != _number(environment, "SLURM_NODEID"):
        raise SlurmError("tasks are not given to nodes in order; use srun --distribution=block")
    workers = [f"{nodes[n]}:{port + k}" for n, k in places]
    return json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    )


def _port(environment: Mapping[str, str]) -> int:
    if environment.get("NEUMF_PORT"):
        return _number(environment, "NEUMF_PORT")
    job = _number(environment, "SLURM_JOB_ID")
    return _FIRST_PORT + job % _JOBS * _PORTS_OF_A_JOB


def _first(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        if environment.get(name):
            return environment[name]
    raise SlurmError(f"{names[0]} is not set; start the tasks with srun (docs/multi-worker.md)")


def _number(environment: Mapping[str, str], name: str) -> int:
    value = _first(environment, name)
    if not re.fullmatch(r"\d{1,18}", value):
        raise SlurmError(f"{name} is {value!r}, which is no number")
    return int(value)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words:
        print(__doc__)
        return exit_codes.OK if words in (["--help"], ["-h"]) else exit_codes.ERROR
    try:
        print(tf_config(os.environ))
    except SlurmError as error:
        print(f"harness.slurm: {error}", file=sys.stderr)
        return exit_codes.ERROR
    return exit_codes.OK


if __name__ == "__main__":
    sys.exit(main())
