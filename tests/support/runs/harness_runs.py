"""Runs the whole harness in a separate process, with the toy engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import DATA, ROOT

TRACK = DATA / "tiny-track.yaml"
# Compiled programs are kept between the tests, and between test runs.
PROGRAM_CACHE = f"--program_cache={ROOT / '.pytest_cache' / 'programs'}"
TOY = "--engine=tests.support.runs.toy_engine:ToyEngine"


def command(folder: Path, *flags: str) -> list[str]:
    """Returns the command of the harness on the tiny track; it writes only below `folder`."""
    return [
        sys.executable, "-m", "harness", f"--track={TRACK}", f"--data_dir={folder / 'data'}",
        f"--results_dir={folder / 'results'}", "--system=sys", "--device=cpu",
        "--clear_caches=skip", PROGRAM_CACHE, *flags,
    ]  # fmt: skip


def environment(**extra: str) -> dict[str, str]:
    """Returns the environment of a harness, with extra variables."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **extra}


def closed_command(folder: Path, data_dir: Path, *flags: str) -> list[str]:
    """Returns the command of closed runs of the toy engine on MovieLens 100K."""
    return [
        sys.executable, "-m", "harness", "--track=ml-100k", f"--data_dir={data_dir}", TOY,
        f"--results_dir={folder / 'results'}", "--system=sys", "--device=cpu",
        "--clear_caches=skip", PROGRAM_CACHE, *flags,
    ]  # fmt: skip


def closed_harness(
    folder: Path, data_dir: Path, *flags: str, **extra: str
) -> subprocess.CompletedProcess:
    """Runs `closed_command` to completion; five runs take about three seconds."""
    return subprocess.run(
        closed_command(folder, data_dir, *flags), capture_output=True, text=True, cwd=ROOT,
        env=environment(**extra), timeout=300,
    )  # fmt: skip


def harness(folder: Path, *flags: str, **extra: str) -> subprocess.CompletedProcess:
    """Runs the harness to completion; `extra` are environment variables."""
    return subprocess.run(
        command(folder, *flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(**extra),
        timeout=300,
    )


def experiments(folder: Path) -> list[Path]:
    """Returns the experiment folders, newest last; runs of the tiny track are always open."""
    return sorted((folder / "results" / "sys" / "experiments").glob("*/*"), key=lambda p: p.name)


def set_folder(folder: Path) -> Path:
    """Returns the folder of the newest experiment; without one, a path that does not exist."""
    found = experiments(folder)
    return found[-1] if found else folder / "results" / "sys" / "experiments" / "none"


def result_log(folder: Path, run: int = 0) -> Path:
    """Returns the log of a finished run of the newest experiment."""
    return set_folder(folder) / f"result_{run}.txt"


def results(folder: Path) -> list[str]:
    """Returns the names of the logs of finished runs of the newest experiment."""
    return sorted(path.name for path in set_folder(folder).glob("result_*"))


def attempts(folder: Path) -> Path:
    """Returns the folder of the newest experiment's attempts."""
    return set_folder(folder) / "attempts"
