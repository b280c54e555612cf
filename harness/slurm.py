"""`python -m harness.slurm`: prints the TF_CONFIG of this task of a SLURM job step.

Each task is one worker. `srun` starts the same command for every task, and this module
converts the task's SLURM_* variables into the value that `harness.devices.tf_config` reads:

    export TF_CONFIG="$(python -m harness.slurm)" && exec python -m harness ...

The module expands the node list itself, so `scontrol` is not needed. Ports are derived from
the job id, so that jobs on the same node use different ports; NEUMF_PORT sets the first port.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from typing import Mapping, Sequence

from harness.base import exit_codes

# Ports start at _FIRST_PORT. They stay below 32768, the first port that Linux uses for outgoing
# connections. Job J gets _PORTS_PER_JOB ports, the same as job J + _NUM_PORT_GROUPS.
_FIRST_PORT, _NUM_PORT_GROUPS, _PORTS_PER_JOB = 12_000, 2_500, 8
_MAX_NODES = 100_000
# One entry of a node list: commas may occur only inside brackets.
_NODE_PATTERN = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
# One part of an entry: (text in brackets, plain text); one of the two is empty.
_NODE_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
# One item in brackets: a number, or "first-last".
_NUMBER_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
# "2": two tasks on one node; "2(x3)": two tasks on each of three nodes.
_TASK_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")


class SlurmError(ValueError):
    """The SLURM variables do not describe a job step; the message is one line."""


def expand_nodes(text: str) -> list[str]:
    """Expands a SLURM node list.

    Args:
      text: A node list such as "gpu[01-03,7],login".

    Returns:
      The host names: gpu01, gpu02, gpu03, gpu7, login.

    Raises:
      SlurmError: The text is not a node list, or names more than _MAX_NODES nodes.
    """
    names: list[str] = []
    if _NODE_PATTERN.sub("", text).strip(","):
        raise SlurmError(f"{text!r} is not a SLURM node list")
    for word in _NODE_PATTERN.findall(text):
        parts = [
            _expand_brackets(brackets) if brackets else [plain]
            for brackets, plain in _NODE_PART.findall(word)
        ]
        # Several brackets multiply the number of names: stop before they fill memory.
        combinations = itertools.islice(itertools.product(*parts), _MAX_NODES + 1)
        names += ("".join(combination) for combination in combinations)
        if len(names) > _MAX_NODES:
            raise SlurmError(f"{text!r} names more than {_MAX_NODES} nodes")
    return names


def _expand_brackets(text: str) -> list[str]:
    """Expands the text in brackets, such as "01-03,7"; leading zeros are kept."""
    numbers: list[str] = []
    for word in text.split(","):
        match = _NUMBER_RANGE.fullmatch(word)
        if match is None:
            raise SlurmError(f"[{text}] is not a range of nodes")
        first, last = match.group(1), match.group(2) or match.group(1)
        if int(last) - int(first) >= _MAX_NODES:
            raise SlurmError(f"[{text}] names more than {_MAX_NODES} nodes")
        numbers += (str(n).zfill(len(first)) for n in range(int(first), int(last) + 1))
    return numbers


def tasks_per_node(text: str) -> list[int]:
    """Expands SLURM's list of tasks per node.

    Args:
      text: A list such as "2(x3),1".

    Returns:
      The number of tasks of each node: [2, 2, 2, 1].

    Raises:
      SlurmError: The text is not such a list.
    """
    counts: list[int] = []
    for word in text.split(","):
        match = _TASK_COUNT.fullmatch(word)
        if match is None or int(match.group(2) or 1) > _MAX_NODES:
            raise SlurmError(f"{text!r} is not a list of tasks per node")
        counts += [int(match.group(1))] * int(match.group(2) or 1)
    return counts


def tf_config(environment: Mapping[str, str]) -> str:
    """Makes the TF_CONFIG of one task.

    Args:
      environment: The environment variables of the task.

    Returns:
      TF_CONFIG as JSON, with one worker per task of the job step.

    Raises:
      SlurmError: Variables are missing or contradict each other.
    """
    nodes = expand_nodes(_first_set(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"))
    counts = tasks_per_node(
        _first_set(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    )
    if len(nodes) != len(counts):
        raise SlurmError(f"number of nodes {len(nodes)}, but task counts for {len(counts)}")
    port = _port(environment)
    # Per task: (index of its node, index of the task on that node).
    places = [(node, local) for node, count in enumerate(counts) for local in range(count)]
    index = _number(environment, "SLURM_PROCID")
    if index >= len(places):
        raise SlurmError(f"SLURM_PROCID is {index}, but the number of tasks is {len(places)}")
    # With any other distribution of tasks over nodes, workers would get wrong addresses.
    if "SLURM_NODEID" in environment and places[index][0] != _number(environment, "SLURM_NODEID"):
        raise SlurmError("tasks are not assigned to nodes in order; use srun --distribution=block")
    workers = [f"{nodes[node]}:{port + local}" for node, local in places]
    return json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    )


def _port(environment: Mapping[str, str]) -> int:
    """Returns the port of the first task on each node."""
    if environment.get("NEUMF_PORT"):
        return _number(environment, "NEUMF_PORT")
    job = _number(environment, "SLURM_JOB_ID")
    return _FIRST_PORT + job % _NUM_PORT_GROUPS * _PORTS_PER_JOB


def _first_set(environment: Mapping[str, str], *names: str) -> str:
    """Returns the value of the first of these variables that is set. Raises SlurmError."""
    for name in names:
        if environment.get(name):
            return environment[name]
    raise SlurmError(f"{names[0]} is not set; start the tasks with srun (docs/multi-worker.md)")


def _number(environment: Mapping[str, str], name: str) -> int:
    """Returns the value of a variable as a whole number. Raises SlurmError."""
    value = _first_set(environment, name)
    if not re.fullmatch(r"\d{1,18}", value):
        raise SlurmError(f"{name} is {value!r}, which is not a number")
    return int(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints TF_CONFIG; returns the exit code."""
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
