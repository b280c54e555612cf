"""Compares versions of this project with each other: `scripts/peers.sh --versions OLD,NEW`.

The speed of a shared machine may vary within minutes by more than the difference of two
versions, so consecutive runs cannot distinguish them. Here each version has its own process.
After all processes are set up, they run single epochs in turn. The order is reversed in every
second round. Ratios are computed within a round.
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
from scripts.peers.environments import PeerError, process_environment
from scripts.peers.jobs import Job
from scripts.peers.processes import kill_process_group, last_log_line
from scripts.peers.summary import format_spread

_WORKER = Path(__file__).with_name("version_worker.py")


def measure_versions(
    versions: Sequence[str], jobs: Sequence[Job], num_rounds: int, log_dir: Path
) -> str:
    """Measures every version at every job.

    Args:
      versions: Folders of the project, or revisions of this repository. The first version is
        the baseline.
      jobs: The jobs to measure.
      num_rounds: Number of epochs per version.
      log_dir: Folder for the logs of the processes; it is created.

    Returns:
      A Markdown table.

    Raises:
      PeerError: A version does not exist or its process failed.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    rows = [
        "| setting | version | M examples/s | ratio to the first | loss | n |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folders = [
            find_version_folder(version, Path(temporary) / str(index))
            for index, version in enumerate(versions)
        ]
        for job in jobs:
            with contextlib.ExitStack() as stack:
                processes = [
                    stack.enter_context(
                        VersionProcess(
                            version, folder, job, log_dir / f"{job.setting}-{index}.log"
                        )
                    )
                    for index, (version, folder) in enumerate(zip(versions, folders))
                ]
                rows += _measure_in_turns(processes, job, num_rounds)
    return "\n".join(rows) + "\n"


def _measure_in_turns(
    processes: Sequence[VersionProcess], job: Job, num_rounds: int
) -> list[str]:
    """Measures one job; returns the table's rows, one per version."""
    examples = job.num_positives * (1 + job.train_negatives)
    # By round and then by version: {"seconds", "loss"}.
    rounds: list[list[dict]] = []
    for round_index in range(num_rounds):
        # Reverse every second round, so that no version always runs with warm caches.
        is_reversed = round_index % 2 == 1
        order = processes[::-1] if is_reversed else processes
        epoch_by_process = {process: process.run_epoch() for process in order}
        rounds.append([epoch_by_process[process] for process in processes])
        rates_text = ", ".join(f"{examples / e['seconds'] / 1e6:.2f}" for e in rounds[-1])
        print(
            f"round {round_index + 1}/{num_rounds} {job.setting}: {rates_text} M examples/s",
            file=sys.stderr,
        )
    rows = []
    for index, process in enumerate(processes):
        rates = [examples / epochs[index]["seconds"] for epochs in rounds]
        ratios = [epochs[0]["seconds"] / epochs[index]["seconds"] for epochs in rounds]
        loss = rounds[-1][index]["loss"]
        cells = [
            job.setting, process.version, format_spread(rates, 1e-6), format_quartiles(ratios),
            "-" if loss is None else f"{loss:.6f}", str(num_rounds),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def format_quartiles(values: Sequence[float]) -> str:
    """Formats values as "median (lower quartile-upper quartile)".

    Fewer than four values are formatted as "median (min-max)".
    """
    if len(values) < 4 or min(values) == max(values):
        return format_spread(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def find_version_folder(version: str, unpack_dir: Path) -> Path:
    """Finds the files of a version.

    Args:
      version: A folder of the project, or a revision of this repository.
      unpack_dir: Folder into which a revision is unpacked.

    Returns:
      The folder.

    Raises:
      PeerError: `version` is neither.
    """
    folder = Path(version)
    if (folder / "scripts" / "peers").is_dir():
        return folder.resolve()
    archive = subprocess.run(
        ["git", "-C", str(PROJECT_ROOT), "archive", "--format=tar", version],
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    if archive.returncode:
        raise PeerError(
            f"--versions: {version!r} is neither a folder of this project nor a revision of it"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(unpack_dir, filter="data")
    return unpack_dir


class VersionProcess:
    """The process of one version, which runs one epoch per request.

    The constructor returns after the process is set up. Use the object in a `with` statement,
    which ends the process.

    Args:
      version: Its name in the table.
      folder: Folder of its files.
      job: The job to set up.
      log: File for all of its output except the answers.
    """

    def __init__(self, version: str, folder: Path, job: Job, log: Path):
        self.version, self._log = version, log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _WORKER.read_text(encoding="utf-8")], cwd=folder,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
                env=process_environment("ours"), start_new_session=True,
            )  # fmt: skip
        try:
            self._request(job.to_json())
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> VersionProcess:
        return self

    def __exit__(self, *_: object) -> None:
        kill_process_group(self._child)

    def run_epoch(self) -> dict:
        """Runs one more epoch.

        Returns:
          {"seconds": float, "loss": float, or None if nothing is trained}.

        Raises:
          PeerError: The process has ended.
        """
        return self._request("again")

    def _request(self, line: str) -> dict:
        """Sends one line and waits for the answer."""
        # If the process has already ended, its log contains the reason.
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(f"{line}\n".encode())
            self._child.stdin.flush()
        answer = self._child.stdout.readline()
        try:
            return json.loads(answer)
        except ValueError:
            raise PeerError(f"version {self.version}: {last_log_line(self._log)}") from None
