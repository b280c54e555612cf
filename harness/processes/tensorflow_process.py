"""Processes that do for the parent what needs TensorFlow, which it never imports.

A child reads one JSON object, its order, from standard input and answers by JSON lines on
a pipe: notes and progress, then one that says `found` or `failed`. It dies with its parent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
from typing import Any, Callable, Mapping

from harness.processes.trial_process import child_environment
from harness.processes.watchdog import die_with_parent
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress

Tell = Callable[..., None]


def ask(module: str, order: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Has `python -m module` do what `order` says; returns its answer.

    The child is ended where this is interrupted. Raises DataError with what the child says.
    """
    reader, writer = os.pipe()
    environment = {**child_environment(), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", module, f"--pipe={writer}", f"--parent={os.getpid()}"]
    with tempfile.TemporaryFile() as output, open(reader, "rb") as answers:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            pass_fds=(writer,), env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        try:
            last = _listen(child, answers, order, progress)
        finally:
            child.kill()
            child.wait()
        if last.get("type") == "found":
            return last
        output.seek(0)
        lines = output.read().decode("utf-8", "replace").strip().splitlines()
    why = last.get("message") or (lines[-1].strip()[:300] if lines else "no answer")
    raise DataError(why)


def _listen(
    child: subprocess.Popen, answers: Any, order: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """The last answer; notes and progress are passed on."""
    last: dict[str, Any] = {}
    try:
        child.stdin.write(json.dumps(order).encode())
        child.stdin.close()
    except OSError:
        pass  # it died already; what it printed says why
    for line in answers:
        message = json.loads(line)
        if message["type"] == "progress":
            progress(message["text"], message["done"], message["total"])
        else:
            last = message
    child.wait()
    return last


def answer(name: str, work: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> int:
    """The child's main function: does `work` and tells how it ended."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}")
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor of the answers")
    parser.add_argument("--parent", type=int, help="process without which nothing is done")
    args = parser.parse_args()
    die_with_parent(args.parent)
    os.set_inheritable(args.pipe, False)

    def tell(kind: str, **values: Any) -> None:
        os.write(args.pipe, (json.dumps({"type": kind, **values}) + "\n").encode())

    def progress(text: str, done: int | None = None, total: int | None = None) -> None:
        tell("progress", text=text, done=done, total=total)

    try:
        tell("found", **work(json.loads(sys.stdin.read()), progress))
    except (DataError, ValueError) as error:
        tell("failed", message=" ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        tell("failed", message=" ".join(f"{name}: {type(error).__name__}: {error}".split())[:300])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
