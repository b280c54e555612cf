"""`python -m harness.trial`: the process of one timed run.

It reads a `TrialSpec` as one line of JSON from standard input. After it has reported that it is
ready, it waits for a line "start". It sends messages to its parent as JSON lines on a pipe.
Standard output and error go to the parent's log file. Only the run's log remains after the process
ends.
"""

from __future__ import annotations

import argparse
import os
import sys

from harness.config.trial_spec import TrialSpec
from harness.processes.parent_pipe import ParentPipe
from harness.processes.watchdog import remove_temporary_folder
from harness.trial.run import Trial


def main() -> None:
    """Runs the trial and ends the process with exit code 0, regardless of the run's outcome."""
    parser = argparse.ArgumentParser(prog="python -m harness.trial", description=__doc__)
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor for messages")
    parser.add_argument("--parent", type=int, help="exit when the process with this id ends")
    parser.add_argument("--lock", type=int, help="file descriptor to keep open")
    args = parser.parse_args()
    # The lock is held while this process lives; its own children must not inherit it.
    if args.lock is not None:
        os.set_inheritable(args.lock, False)
    parent = ParentPipe(args.pipe)
    spec = TrialSpec.from_json(sys.stdin.readline())
    Trial(spec, parent, args.parent, wait_for_start).run()
    remove_temporary_folder()
    # os._exit, not return: a background thread of an engine must not keep the process alive,
    # and an error during Python's shutdown must not change the run's outcome.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def wait_for_start() -> bool:
    """Waits for the parent's line "start"; returns False if the parent has ended."""
    return sys.stdin.readline().strip() == "start"


if __name__ == "__main__":
    main()
