"""Runs of the whole harness in a process of its own, with the toy engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import DATA, ROOT

TRACK = DATA / "tiny-track.yaml"
TOY = "--engine=tests.support.runs.toy_engine:ToyEngine"


def command(folder: Path, *flags: str) -> list[str]:
    """Returns the command of the harness on the tiny track; it writes below `folder` only."""
    return [
        sys.executable, "-m", "harness", f"--track={TRACK}", f"--data_dir={folder / 'data'}",
        f"--results_dir={folder / 'results'}", "--system=sys", "--device=cpu",
        "--clear_caches=skip", *flags,
    ]  # fmt: skip


def environment(**extra: str) -> dict[str, str]:
    """Returns the environment of a harness, with further variables."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **extra}


def harness(folder: Path, *flags: str, **extra: str) -> subprocess.CompletedProcess:
    """Runs the harness to its end; `extra` are environment variables."""
    return subprocess.run(
        command(folder, *flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(**extra),
        timeout=300,
    )


def results(folder: Path) -> list[str]:
    """Returns the names of the files among the results."""
    place = folder / "results" / "sys" / "ncf-tiny"
    return sorted(path.name for path in place.iterdir()) if place.is_dir() else []


def attempts(folder: Path) -> Path:
    """Returns the folder of the attempts."""
    return folder / "results" / "sys" / "attempts" / "ncf-tiny"
