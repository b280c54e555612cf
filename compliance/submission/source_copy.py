"""The project's own source as a submission carries it, and the flags of a set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from compliance.results.run_set import RunSet

NAME = "neumf-bench"
PROJECT = Path(__file__).resolve().parents[2]
# What it takes to repeat a run.
NEEDED = ("reference_model", "harness", "compliance", "scripts", "requirements",
          "run_and_time.sh", "pyproject.toml", "README.md", "LICENSE")
ALSO = ("docs", "run_tests.sh")
_FLAGS = {"global_batch_size": "batch_size", "eval_batch_size": "eval_batch_size",
          "opt_name": "optimizer", "opt_base_learning_rate": "learning_rate",
          "opt_adam_beta_1": "beta1", "opt_adam_beta_2": "beta2", "opt_adam_epsilon": "epsilon",
          "engine": "engine", "precision": "precision", "device": "device"}


def missing(project: Path) -> list[str]:
    """What of the source is not there, one line each."""
    found = [name for name in NEEDED if not (project / name).exists()]
    return [f"{project} lacks {', '.join(found)}: package from a checkout of the source"] \
        if found else []


def copy(project: Path, place: Path) -> None:
    """Copies the source: plain files only, without caches and hidden files."""
    for name in (*NEEDED, *ALSO):
        top = project / name
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*"))
        for path in files:
            parts = path.relative_to(project).parts
            if path.is_symlink() or not path.is_file() \
                    or any(p.startswith(".") or p == "__pycache__" for p in parts):
                continue
            target = place.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)  # scripts stay executable


def settings_of(runs: RunSet) -> dict[str, Any]:
    """The settings on which all runs agree, by the harness's flag."""
    result = {}
    for key, flag in _FLAGS.items():
        values = [run.line.settings.get(key) for run in runs.runs]
        if values[0] is not None and all(v == values[0] for v in values):
            result[flag] = values[0]
    return result


def flags_of(runs: RunSet, system: str) -> list[str]:
    """The harness flags that repeat the set."""
    track = runs.track
    flags = [f"--track={track.name}"] if track else []
    flags += [f"--system={system}"]
    division = runs.files[0].facts.division
    if division == "open":
        flags.append("--division=open")
    return flags + [f"--{flag}={value}" for flag, value in settings_of(runs).items()]
