"""The parent process of a worker that is not the chief: it runs one trial after another.

The chief's parent process chooses the runs and their seeds and handles the results. This
process starts a trial process for each run and shows its progress. It writes no results.
The console output of its trials goes to a temporary file, which is kept only after a failure.
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
from harness.launcher.trial_view import TrialView
from harness.logs.run_log import RESULT_REASONS
from harness.processes.trial_process import Interrupts, Message, exit_reason, run_trial_process
from reference_model.data.split_file import SplitHeader


def serve_trials(
    config: RunConfig,
    cluster: Cluster,
    header: SplitHeader,
    console: Console,
    interrupts: Interrupts,
) -> int:
    """Takes part in the chief's trials until there are no more.

    Args:
      config: The settings of the set.
      cluster: The workers; this one is not the chief.
      header: Header of the dataset.
      console: Shows the progress.
      interrupts: Handles this process's signals.

    Returns:
      The exit code.

    Raises:
      ConfigError: The workers differ, or a flag has an invalid value.
    """
    name = f"worker {cluster.index} of {cluster.num_workers}"
    console.note(f"cluster  {name}; results are written by {cluster.name(0)}")
    num_done = 0
    while True:
        if interrupts.requested:
            raise KeyboardInterrupt
        descriptor, path = tempfile.mkstemp(prefix=f"neumf-bench-worker{cluster.index}-")
        os.close(descriptor)
        output = Path(path)
        view = TrialView(console, config, name, own_run=None)
        spec = worker_spec(config, header, num_done)
        with interrupts.deferred():
            last, returncode = run_trial_process(spec, output, interrupts, view.show)
        console.keep_progress_line()
        if last.get("is_usage_error"):
            output.unlink()
            raise ConfigError(last["message"])
        if interrupts.requested:
            output.unlink()
            console.verdict(f"INTERRUPTED: {name}; runs completed: {num_done}")
            return exit_codes.INTERRUPTED
        # If the chief has not reported whether a run follows, the chief is lost.
        if last.get("reason") not in RESULT_REASONS or view.more is None:
            console.line(f"{name}: {_describe_loss(last, returncode, output, cluster)}")
            console.line(f"full output: {output}")
            console.verdict(f"FAIL: a run was lost; {name}; runs completed: {num_done}")
            return exit_codes.FAIL
        output.unlink()
        num_done += 1
        if not view.more:
            runs = "1 run" if num_done == 1 else f"{num_done} runs"
            console.verdict(
                f"done: {name} took part in {runs}; {cluster.name(0)} reports the verdict"
            )
            return exit_codes.OK


def worker_spec(config: RunConfig, header: SplitHeader, trial_index: int) -> TrialSpec:
    """Makes the specification of a trial whose run and seed the chief will send.

    Args:
      config: The settings of the set.
      header: Header of the dataset.
      trial_index: Number of trials that this process has started before.

    Returns:
      A silent trial, with placeholders for the run, its seed and its log.
    """
    return TrialSpec(
        config=config,
        run=0,
        seed=0,
        attempt_log="",
        result_log="",
        num_users=header.num_users,
        num_items=header.num_items,
        num_positives=header.num_positives,
        attempt_record={},
        split_digest=header.digest,
        trial_index=trial_index,
        is_silent=True,
    )


def _describe_loss(last: Message, returncode: int, output: Path, cluster: Cluster) -> str:
    """Returns the reason why a run did not complete on this worker, in one line."""
    if last.get("reason") in RESULT_REASONS:
        return f"worker_lost: {cluster.name(0)} ended before it had completed the run"
    if last:
        return f"{last['reason']}: {last['message']}"
    return f"killed: {exit_reason(returncode, output)}"
