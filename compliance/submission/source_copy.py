"""Copies the project's source into a submission; derives the flags that repeat a set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from compliance.results.run_set import RunSet

IMPLEMENTATION = "neumf-bench"
PROJECT_DIR = Path(__file__).resolve().parents[2]
# Files and folders required to repeat a run; the optional ones are copied if present.
REQUIRED_PATHS = ("reference_model", "harness", "compliance", "scripts", "requirements",
                  "run_and_time.sh", "pyproject.toml", "README.md", "LICENSE")
OPTIONAL_PATHS = ("docs", "run_tests.sh")
_FLAG_OF_LOG_KEY = {"global_batch_size": "batch_size", "eval_batch_size": "eval_batch_size",
                    "opt_name": "optimizer", "opt_base_learning_rate": "learning_rate",
                    "opt_adam_beta_1": "beta1", "opt_adam_beta_2": "beta2",
                    "opt_adam_epsilon": "epsilon",
                    "engine": "engine", "precision": "precision", "device": "device"}


def missing_source(project: Path) -> list[str]:
    """Lists the parts of the source that are missing in the project's folder.

    Args:
      project: The project's folder.

    Returns:
      At most one line for the user; empty if nothing is missing.
    """
    missing = [name for name in REQUIRED_PATHS if not (project / name).exists()]
    return [f"{project} lacks {', '.join(missing)}: package from a checkout of the source"] \
        if missing else []


def copy_source(project: Path, destination: Path) -> None:
    """Copies the source: plain files only, without caches and hidden files.

    Args:
      project: The project's folder.
      destination: The folder to copy into; it is created.
    """
    for name in (*REQUIRED_PATHS, *OPTIONAL_PATHS):
        source = project / name
        files = [source] if source.is_file() else sorted(p for p in source.rglob("*"))
        for path in files:
            parts = path.relative_to(project).parts
            if path.is_symlink() or not path.is_file() \
                    or any(p.startswith(".") or p == "__pycache__" for p in parts):
                continue
            target = destination.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)  # scripts stay executable


def common_settings(run_set: RunSet) -> dict[str, Any]:
    """Returns the settings on which all runs of a set agree.

    Args:
      run_set: The set.

    Returns:
      The harness's flag, without dashes, of each setting -> its value.
    """
    settings = {}
    for key, flag in _FLAG_OF_LOG_KEY.items():
        values = [run.timeline.settings.get(key) for run in run_set.runs]
        if values[0] is not None and all(v == values[0] for v in values):
            settings[flag] = values[0]
    return settings


def harness_flags(run_set: RunSet, system: str) -> list[str]:
    """Returns the harness's flags that repeat a set.

    Args:
      run_set: The set.
      system: The name of the system.

    Returns:
      The flags as arguments of the command line.
    """
    track = run_set.track
    flags = [f"--track={track.name}"] if track else []
    flags += [f"--system={system}"]
    division = run_set.files[0].summary.division
    if division == "open":
        flags.append("--division=open")
    return flags + [f"--{flag}={value}" for flag, value in common_settings(run_set).items()]
