"""Versions of this project against each other: `scripts/peers.sh --versions OLD,NEW`.

A shared machine's speed changes within minutes by more than a change of the engine is
worth, so runs one after the other cannot tell two versions apart. Here each version has
a process of its own, all are set up first, and then they take turns of one epoch, the
order reversed from round to round; ratios are taken within a round.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Sequence

from harness.base.machine import PROJECT_ROOT
from scripts.peers.environments import PeerError, environment
from scripts.peers.jobs import Job
from scripts.peers.processes import end, last_words
from scripts.peers.summary import spread

_WORKER = Path(__file__).with_name("version_worker.py")


def compare(versions: Sequence[str], jobs: Sequence[Job], rounds: int, log: Path) -> str:
    """The table of `rounds` turns of every version at every job.

    versions: folders of the project, or revisions of this repository; the first is what
    the others are compared with. log: a folder for what the processes say. Raises PeerError.
    """
    log.mkdir(parents=True, exist_ok=True)
    rows = [
        "| setting | version | M examples/s | times the first's | loss | n |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as room:
        folders = [folder(v, Path(room) / str(k)) for k, v in enumerate(versions)]
        for job in jobs:
            with contextlib.ExitStack() as stack:
                workers = [
                    stack.enter_context(Worker(v, where, job, log / f"{job.setting}-{k}.log"))
                    for k, (v, where) in enumerate(zip(versions, folders))
                ]
                rows += _turns(workers, job, rounds)
    return "\n".join(rows) + "\n"


def _turns(workers: Sequence[Worker], job: Job, rounds: int) -> list[str]:
    """The table's rows of one job."""
    examples = job.num_positives * (1 + job.train_negatives)
    found: list[list[dict]] = []
    for round_ in range(rounds):
        inverted = round_ % 2 == 1
        said = {worker: worker.turn() for worker in (workers[::-1] if inverted else workers)}
        found.append([said[worker] for worker in workers])
        words = ", ".join(f"{examples / line['seconds'] / 1e6:.2f}" for line in found[-1])
        print(f"round {round_ + 1}/{rounds} {job.setting}: {words} M examples/s", file=sys.stderr)
    rows = []
    for k, worker in enumerate(workers):
        rates = [examples / lines[k]["seconds"] for lines in found]
        ratios = [lines[0]["seconds"] / lines[k]["seconds"] for lines in found]
        loss = found[-1][k]["loss"]
        cells = [
            job.setting, worker.version, spread(rates, 1e-6), quartiles(ratios),
            "-" if loss is None else f"{loss:.6f}", str(rounds),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def quartiles(values: Sequence[float]) -> str:
    """"median (lower-upper quartile)"; of fewer than four values, least and most."""
    if len(values) < 4 or min(values) == max(values):
        return spread(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def folder(version: str, room: Path) -> Path:
    """Where a version's files are: a folder as it is, a revision's unpacked into `room`."""
    here = Path(version)
    if (here / "scripts" / "peers").is_dir():
        return here.resolve()
    packed = subprocess.run(
        ["git", "-C", str(PROJECT_ROOT), "archive", "--format=tar", version],
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    if packed.returncode:
        raise PeerError(
            f"--versions: {version!r} is neither a folder of this project nor a revision of it"
        )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(room, filter="data")
    return room


class Worker:
    """One version's process, ready for turns once it is made."""

    def __init__(self, version: str, where: Path, job: Job, log: Path):
        self.version, self._log = version, log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _WORKER.read_text(encoding="utf-8")], cwd=where,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
                env=environment("ours"), start_new_session=True,
            )  # fmt: skip
        try:
            self._asked(job.to_json())
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._child)

    def turn(self) -> dict:
        """One epoch: {"seconds", "loss"}. Raises PeerError where the process has ended."""
        return self._asked("again")

    def _asked(self, line: str) -> dict:
        with contextlib.suppress(BrokenPipeError):  # it says why in its log
            self._child.stdin.write(f"{line}\n".encode())
            self._child.stdin.flush()
        said = self._child.stdout.readline()
        try:
            return json.loads(said)
        except ValueError:
            raise PeerError(f"version {self.version}: {last_words(self._log)}") from None
