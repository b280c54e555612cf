"""Two real processes of the harness as two workers on the loopback interface."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.runs.harness_runs import ROOT, command, environment

# Longest wait in seconds; a loaded machine may be slow.
PATIENCE = 240.0


@dataclass
class FinishedWorker:
    """The exit code and the output of a worker."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def verdict(self) -> str:
        """The last line of the output."""
        return self.stdout.rstrip().splitlines()[-1]


def addresses(count: int = 2) -> list[str]:
    """Returns local addresses whose ports are free."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [f"localhost:{listener.getsockname()[1]}" for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def tf_config(workers: list[str], index: int) -> str:
    """Returns the TF_CONFIG of one worker."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


class Worker:
    """One worker's parent process.

    Args:
      folder: The parent folder of the worker's folder and of the files with its output.
      workers: The addresses of all workers.
      index: The index of this worker.
      flags: Flags of the harness.
      extra: Environment variables.
    """

    def __init__(self, folder: Path, workers: list[str], index: int, *flags: str, **extra: str):
        self.folder = folder / f"worker{index}"
        self.folder.mkdir(exist_ok=True)
        self._paths = [folder / f"{name}{index}.txt" for name in ("stdout", "stderr")]
        out, err = (open(path, "wb") for path in self._paths)
        with out, err:
            self.process = subprocess.Popen(
                command(self.folder, *flags), cwd=ROOT, stdout=out, stderr=err,
                env=environment(TF_CONFIG=tf_config(workers, index), **extra),
            )  # fmt: skip

    def wait(self, seconds: float = PATIENCE) -> FinishedWorker:
        """Waits for the process to end; after `seconds`, kills it and raises TimeoutExpired."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return FinishedWorker(code, *(path.read_text() for path in self._paths))

    @property
    def results(self) -> Path:
        """The folder in which it would write results."""
        return self.folder / "results"


def start(folder: Path, *flags: str, **extra: str) -> list[Worker]:
    """Starts the chief and worker 1 with the same flags."""
    workers = addresses()
    return [Worker(folder, workers, index, *flags, **extra) for index in range(2)]


def run(folder: Path, *flags: str, **extra: str) -> list[FinishedWorker]:
    """Runs the chief and worker 1 with the same flags to completion."""
    return [worker.wait() for worker in start(folder, *flags, **extra)]
