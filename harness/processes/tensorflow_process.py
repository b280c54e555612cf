"""Child processes for work that needs TensorFlow, which the parent process never imports.

A child reads its request, one JSON object, from standard input. It sends `progress` messages
and then one `found` or `failed` message. It ends when its parent dies.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from typing import Any, Callable, Mapping

from harness.base.error_text import DESCRIPTION_LENGTH, one_line, type_and_message
from harness.processes.child_process import Message, child_environment, run_child
from harness.processes.parent_pipe import ParentPipe
from harness.processes.watchdog import die_with_parent
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress


def run_in_child(module: str, request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Runs `python -m module` and returns the values in its `found` message.

    GPUs are hidden from the child. It is killed if this call is interrupted.

    Args:
      module: A module whose main function is `child_main`.
      request: JSON values that describe the work of the child.
      progress: Receives the child's progress.

    Returns:
      The child's `found` message.

    Raises:
      DataError: with the child's message, or the last line of its output.
    """

    def show_progress(message: Message) -> None:
        if message["type"] == "progress":
            progress(message["text"], message["done"], message["total"])

    result = run_child(
        module,
        request,
        environment={**child_environment(), "CUDA_VISIBLE_DEVICES": "-1"},
        arguments=[f"--parent={os.getpid()}"],
        on_message=show_progress,
    )
    if result.message.get("type") == "found":
        return result.message
    raise DataError(result.message.get("message") or result.output_line or "no answer")


def child_main(name: str, work: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> int:
    """The main function of a child process; does not return.

    Args:
      name: The child's module.
      work: Called as `work(request, progress)`, with the request and a function that reports
        progress; returns JSON values by name.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}")
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor of the answers")
    parser.add_argument("--parent", type=int, help="exit when this process dies")
    args = parser.parse_args()
    die_with_parent(args.parent)
    pipe = ParentPipe(args.pipe)

    def progress(text: str, done: int | None = None, total: int | None = None) -> None:
        pipe.send("progress", text=text, done=done, total=total)

    try:
        pipe.send("found", **work(json.loads(sys.stdin.read()), progress))
    except (DataError, ValueError) as error:
        pipe.send("failed", message=one_line(error))
    except Exception as error:
        traceback.print_exc()
        text = f"{name}: {type_and_message(error)}"
        pipe.send("failed", message=one_line(text, DESCRIPTION_LENGTH))
    sys.stdout.flush()
    sys.stderr.flush()
    # TensorFlow's threads must not keep the process alive.
    os._exit(0)
