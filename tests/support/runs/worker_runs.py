"""Two real processes of the harness as two workers on the loopback interface."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.runs.harness_runs import ROOT, command, environment

# As slow as the machine may be when others use it.
PATIENCE = 240.0


@dataclass
class Done:
    """How a worker ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def verdict(self) -> str:
        return self.stdout.rstrip().splitlines()[-1]


def addresses(count: int = 2) -> list[str]:
    """Addresses of this machine whose ports are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [f"localhost:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


def tf_config(workers: list[str], index: int) -> str:
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


class Worker:
    """One worker's parent process, with a folder of its own under `folder`."""

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

    def wait(self, seconds: float = PATIENCE) -> Done:
        """Until it ends. Raises subprocess.TimeoutExpired, having killed it."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return Done(code, *(path.read_text() for path in self._paths))

    @property
    def results(self) -> Path:
        return self.folder / "results"


def start(folder: Path, *flags: str, **extra: str) -> list[Worker]:
    """Chief and worker 1, with the same flags."""
    workers = addresses()
    return [Worker(folder, workers, index, *flags, **extra) for index in range(2)]


def run(folder: Path, *flags: str, **extra: str) -> list[Done]:
    """The same, to their ends."""
    return [worker.wait() for worker in start(folder, *flags, **extra)]
