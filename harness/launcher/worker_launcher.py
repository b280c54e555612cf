"""The parent process of a worker that is not the chief: it serves one trial after another.

The chief's parent decides about everything: which runs there are, with which seeds, and
what becomes of them. This one starts a trial process for each of them, shows how it goes,
and writes no results: only the console output of its trials, in a temporary file that
stays where something went wrong.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.base import exit_codes
from harness.base.console import Console
from harness.config.run_config import ConfigError, RunConfig
from harness.config.trial_spec import TrialSpec
from harness.devices.tf_config import Cluster
from harness.logs.run_log import PLACED_REASONS
from harness.processes.trial_process import Interrupts, Message, attend, how_it_died
from reference_model.data.split_file import CacheHeader


def serve(
    config: RunConfig,
    members: Cluster,
    header: CacheHeader,
    console: Console,
    interrupts: Interrupts,
) -> int:
    """Takes part in the chief's trials until there are no more; returns the exit code.

    Raises ConfigError where the workers cannot be one cluster.
    """
    me = f"worker {members.index} of {members.num_workers}"
    console.note(f"cluster  {me}; results are written by {members.name(0)}")
    done = 0
    while True:
        if interrupts.requested:
            raise KeyboardInterrupt
        descriptor, name = tempfile.mkstemp(prefix=f"neumf-bench-worker{members.index}-")
        os.close(descriptor)
        log = Path(name)
        view = _View(console, config, me)
        spec = worker_spec(config, header, done)
        with interrupts.held():
            last, returncode = attend(spec, log, interrupts, view.show)
        console.keep()
        if last.get("usage"):
            log.unlink()
            raise ConfigError(last["message"])
        if interrupts.requested:
            log.unlink()
            console.verdict(f"INTERRUPTED: {me} took part in {done} whole runs")
            return exit_codes.INTERRUPTED
        if last.get("reason") not in PLACED_REASONS or view.more is None:
            console.line(f"{me}: {_why_lost(last, returncode, log, members)}")
            console.line(f"full output: {log}")
            console.verdict(f"FAIL: a run was lost; {me} took part in {done} whole runs")
            return exit_codes.FAIL
        log.unlink()
        done += 1
        if not view.more:
            runs = "1 run" if done == 1 else f"{done} runs"
            console.verdict(f"done: {me} took part in {runs}; {members.name(0)} has the verdict")
            return exit_codes.OK


def worker_spec(config: RunConfig, header: CacheHeader, ordinal: int) -> TrialSpec:
    """A trial whose run and seed the chief will tell."""
    return TrialSpec(
        config=config,
        run=0,
        seed=0,
        attempt="",
        result="",
        num_users=header.num_users,
        num_items=header.num_items,
        num_positives=header.num_positives,
        link={},
        split_digest=header.digest,
        ordinal=ordinal,
        silent=True,
    )


def _why_lost(last: Message, returncode: int, log: Path, members: Cluster) -> str:
    """What became of a run that did not come to its end here, in one line."""
    if last.get("reason") in PLACED_REASONS:
        return f"worker_lost: {members.name(0)} went before it had closed the run"
    if last:
        return f"{last['reason']}: {last['message']}"
    return f"killed: {how_it_died(returncode, log)}"


class _View:
    """Shows the messages of one trial, and keeps what they say of the next one."""

    def __init__(self, console: Console, config: RunConfig, me: str):
        self._console, self._config = console, config
        self._name = me
        self._run = ""
        self.more: bool | None = None

    def show(self, message: Message) -> None:
        kind = message["type"]
        if kind == "stage":
            lasting = message["name"].startswith("waiting")
            self._console.progress(f"{self._name}{self._run}: {message['name']}", lasting)
        elif kind == "joined":
            self._run = f", run {message['run'] + 1}"
            self._console.progress(f"{self._name}{self._run}: seed {message['seed']}")
        elif kind == "note":
            self._console.line(f"{self._name}: {message['text']}")
        elif kind == "epoch":
            top_k = self._config.track.evaluation.top_k
            self._console.progress(
                f"{self._name}{self._run} ep {message['epoch']:<2} HR@{top_k} {message['hr']:.4f}"
                f"  loss {message['loss']:.4f}"
            )
        elif kind == "parted":
            self.more = message["more"]
