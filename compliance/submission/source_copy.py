"""Copies the project's source into a submission; derives the flags that repeat a set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from compliance.results.run_set import RunSet, SetRun

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
# Flags whose values are only in the logged configuration, with the value that needs no flag. None
# never needs one; for `max_epochs` and `target`, neither does the track's value.
_CONFIGURATION_FLAGS = {"num_devices": None, "strategy": "auto", "intra_op_threads": None,
                        "inter_op_threads": None, "input": "generated", "max_epochs": None,
                        "target": None, "runtime": "auto", "clear_caches": "auto"}


def missing_source(project: Path) -> list[str]:
    """Lists the parts of the source that are missing in the project's folder.

    Args:
      project: The project's folder.

    Returns:
      At most one line for the user; empty if nothing is missing.
    """
    missing = [name for name in REQUIRED_PATHS if not (project / name).exists()]
    return [f"{project} lacks {', '.join(missing)}: give a checkout of the source with "
            "--source DIR"] if missing else []


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
        value = _common([run.timeline.settings.get(key) for run in run_set.runs])
        if value is not None:
            settings[flag] = value
    track = run_set.track
    of_track = {"max_epochs": track.max_epochs, "target": track.target} if track else {}
    for flag, default in _CONFIGURATION_FLAGS.items():
        value = _common([_configuration(run).get(flag) for run in run_set.runs])
        if value is not None and value != default and value != of_track.get(flag):
            settings[flag] = value
    return settings


def _configuration(run: SetRun) -> dict[str, Any]:
    """Returns the logged configuration of a run; an empty object if there is none."""
    value = run.timeline.descriptions.get("configuration", ({}, None))[0]
    return value if isinstance(value, dict) else {}


def _common(values: list[Any]) -> Any:
    """Returns the value if all are equal and of a type that a flag can have, else None."""
    is_plain = all(isinstance(v, (str, int, float)) and v == values[0] for v in values)
    return values[0] if is_plain else None


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
    org = _common([run.timeline.descriptions.get("submission_org", (None, None))[0]
                   for run in run_set.runs])
    if org is not None:
        flags.append(f"--org={org}")
    num_runs = sum(run.is_complete_run for run in run_set.runs)
    if track and num_runs != track.runs:
        flags.append(f"--num_runs={num_runs}")
    division = run_set.files[0].summary.division
    if division == "open":
        flags.append("--division=open")
    seed = _common([_configuration(run).get("base_seed") for run in run_set.runs])
    if seed is not None:
        flags.append(f"--seed={seed}")
    return flags + [f"--{flag}={value}" for flag, value in common_settings(run_set).items()]
