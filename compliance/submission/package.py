"""`package DIR --output TREE`: writes results as an MLPerf submission tree.

    TREE/README.md
    TREE/systems/<system>.json
    TREE/results/<system>/<benchmark>/result_<i>.txt
    TREE/benchmarks/<benchmark>/implementations/neumf-bench/      the source
    TREE/benchmarks/<benchmark>/implementations/<system>/         README.md, setup.sh,
        init_datasets.sh, run_and_time.sh, <system>_neumf-bench.json

The layout is that of the MLPerf submission rules, "Directory structure", Training. Logs
are copied byte by byte. The tree is written under a temporary name in the same folder,
checked as `check` would, and renamed, so it appears complete or not at all.
Existing files are not overwritten.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.base.errors import UsageError
from compliance.checking.checker import check_paths
from compliance.checking.results import FAIL, UNREADABLE
from compliance.logs.find_logs import find_logs
from compliance.results.run_set import RunSet, read_set, require_folder
from compliance.results.scoring import Score, score_checked_set
from compliance.submission import source_copy
from compliance.submission.tree_check import (
    add_tree_results,
    find_description_problems,
    find_set_problems,
    read_description,
)

# Characters of an engine's name that Markdown would interpret.
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_<>[]"})
# Folders of a results tree that contain no finished sets.
_EXCLUDED_FOLDERS = ("attempts", "experiments", "reports", "logs")


@dataclass(frozen=True)
class PackedSet:
    """A set to be packed.

    Attributes:
      system: The name of the system's folder.
      folder: The set's folder in the results.
      run_set: The logs.
      score: The score.
      description: The system's description (system.json).
    """

    system: str
    folder: Path
    run_set: RunSet
    score: Score
    description: dict[str, Any]

    @property
    def benchmark(self) -> str:
        """The name of the set's folder."""
        return self.folder.name


class PackagingError(Exception):
    """The results cannot be packed, and nothing was written.

    Attributes:
      reasons: The reasons, one line each.
      verdict: The checker's verdict on the logs: fail, unreadable, or None if all pass.
    """

    def __init__(self, reasons: list[str], verdict: str | None) -> None:
        super().__init__(reasons[0])
        self.reasons, self.verdict = reasons, verdict


@dataclass(frozen=True)
class WrittenTree:
    """The tree that was written.

    Attributes:
      sets: The sets in it.
      num_files: The number of its files.
    """

    sets: list[PackedSet]
    num_files: int


def package_results(folder: str | Path, output: str | Path, source: Path | None = None
                    ) -> WrittenTree:
    """Writes the submission tree.

    Args:
      folder: results, results/<system> or results/<system>/<benchmark>.
      output: The tree's folder, which must not exist.
      source: The project's folder; None selects the one that contains this module.

    Returns:
      The written tree.

    Raises:
      UsageError: The folders cannot be used.
      PackagingError: The results or the source are not fit for a submission.
      OSError: Reading or writing failed.
    """
    folder, output = require_folder(folder).resolve(), Path(os.path.abspath(output))
    if os.path.lexists(output):
        raise UsageError(f"{output} exists and is not overwritten; give another folder")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: no such folder for the tree; create it first")
    if folder == output or folder in output.parents:
        raise UsageError(f"{output} is inside the results; give a folder outside")
    source = source or source_copy.PROJECT_DIR
    reasons, verdict, sets = _inspect_results(folder)
    reasons += source_copy.missing_source(source)
    if reasons:
        raise PackagingError(reasons, verdict)
    # The tree appears under its own name only when it is complete and has passed the check.
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        _write_tree(temporary, sets, source)
        _check_written_tree(temporary)
        num_files = sum(path.is_file() for path in temporary.rglob("*"))
        os.rename(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return WrittenTree(sets, num_files)


def source_folder(path: str | None) -> Path | None:
    """Returns the folder of `--source`, or None.

    Raises:
      UsageError: It is not a folder.
    """
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"--source={path}: no such folder; give a checkout of the source")
    return folder.resolve()


def _inspect_results(folder: Path) -> tuple[list[str], str | None, list[PackedSet]]:
    """Returns (the reasons why the results cannot be packed, the verdict on the logs, the sets)."""
    groups: dict[Path, list[Path]] = {}
    for log in find_logs(folder):
        if not set(log.relative_to(folder).parts[:-1]) & set(_EXCLUDED_FOLDERS):
            groups.setdefault(log.parent, []).append(log)
    if not groups:
        raise UsageError(f"{folder}: no result_*.txt outside {', '.join(_EXCLUDED_FOLDERS)}")
    reasons: list[str] = []
    verdicts: set[str] = set()
    sets = []
    for set_folder, logs in groups.items():
        # Each set is checked and scored as `check` and `score` would.
        run_set = read_set(logs, "auto")
        score = score_checked_set(run_set.files)
        verdicts.add(score.verdict if score.result.seconds is not None or
                     score.verdict == UNREADABLE else FAIL)
        description, problems = _read_system(set_folder.parent)
        division = str(description.get("division", "")).strip().lower() or None
        problems += [f"{set_folder}: {m}" for rule, m in
                     find_set_problems(set_folder, set_folder.parent.name, run_set.files, division)
                     if rule != "NCF-TREE-FILES"]
        if run_set.track is None:
            problems.append(f"{set_folder}: the logs are not all of one built-in track")
        if any(f.dialect != "mllog" for f in run_set.files):
            problems.append(f"{set_folder}: only MLLOG sets can be packed")
        if score.result.seconds is None:
            problems.append(f"{set_folder}: no score: {score.result.reason}")
        reasons += [p for p in problems if p not in reasons]
        sets.append(PackedSet(set_folder.parent.name, set_folder, run_set, score, description))
    if len({str(s.description.get("division")).lower() for s in sets}) > 1:
        reasons.append("the sets are of several divisions; create a separate tree for each")
    worst_verdict = FAIL if FAIL in verdicts else UNREADABLE if UNREADABLE in verdicts else None
    return reasons, worst_verdict, sets


def _read_system(system: Path) -> tuple[dict[str, Any], list[str]]:
    """Returns (the system's description, its problems)."""
    path = system / "system.json"
    if not path.is_file():
        return {}, [f"{path} is missing: the description of the system"]
    data, problem = read_description(path)
    if problem:
        return {}, [f"{path} {problem}"]
    return data, [f"{path} {message}" for rule, message in find_description_problems(data, False)
                  if rule == "NCF-TREE-SYSTEM-FIELDS"]


def _write_tree(root: Path, sets: list[PackedSet], source: Path) -> None:
    """Writes the whole tree under `root`."""
    root.mkdir()
    _write_text(root / "README.md", _readme_text(sets))
    for packed_set in sets:
        results = root / "results" / packed_set.system / packed_set.benchmark
        results.mkdir(parents=True)
        for file in packed_set.run_set.files:
            shutil.copyfile(file.path, results / Path(file.path).name)
        _write_json(root / "systems" / f"{packed_set.system}.json", packed_set.description)
        implementations = root / "benchmarks" / packed_set.benchmark / "implementations"
        # Several systems may share a benchmark and its copy of the source.
        if not (implementations / source_copy.IMPLEMENTATION).exists():
            source_copy.copy_source(source, implementations / source_copy.IMPLEMENTATION)
        _write_scripts(implementations / packed_set.system, packed_set)


def _write_scripts(script_folder: Path, packed_set: PackedSet) -> None:
    """Writes scripts, settings and README of one system's implementation."""
    flags = source_copy.harness_flags(packed_set.run_set, packed_set.system)
    shown_flags = " ".join(shlex.quote(f) for f in flags)
    track = packed_set.run_set.track
    name = track.name if track else ""
    project = f'cd "$(dirname "${{BASH_SOURCE[0]}}")/../{source_copy.IMPLEMENTATION}"'
    results = 'results="$PWD/results"\n'
    for file, purpose, arguments in (
            ("setup.sh", "One-time set-up: installs the dependencies of run_and_time.sh.",
             "--help >/dev/null"),
            ("init_datasets.sh", "One-time set-up: downloads and prepares the dataset.",
             f'--track={shlex.quote(name)} --prepare_only "$@"'),
            ("run_and_time.sh", "Runs the benchmark with the settings of these results. The new "
             "results go to ./results; further flags are added, and take precedence.",
             f'--results_dir="$results" {shown_flags} "$@"')):
        _write_text(script_folder / file, f"#!/usr/bin/env bash\n# {purpose}\nset -eu\n"
                    f"{results if '$results' in arguments else ''}{project}\n"
                    f"exec bash run_and_time.sh {arguments}\n", executable=True)
    _write_json(script_folder / f"{packed_set.system}_{source_copy.IMPLEMENTATION}.json", {
        "system": packed_set.system, "implementation": source_copy.IMPLEMENTATION,
        "benchmark": packed_set.benchmark, "track": name,
        "settings": source_copy.common_settings(packed_set.run_set)})
    _write_text(
        script_folder / "README.md",
        f"# {packed_set.benchmark} on {packed_set.system}\n\nTrack {name}. "
        "Set up once:\n\n    ./setup.sh\n    ./init_datasets.sh\n\nThen run, from the folder in which "
        "`results/` is to appear:\n\n    ./run_and_time.sh\n\n"
        f"This is the same as, in `../{source_copy.IMPLEMENTATION}`:\n\n"
        f"    ./run_and_time.sh {shown_flags}\n\n"
        f"{_engine_note(packed_set.run_set)}The source's own README is `../{source_copy.IMPLEMENTATION}/README.md`.\n")


def _engine_note(run_set: RunSet) -> str:
    """Returns what to do about an engine that is not part of the source; "" if it is."""
    engine = str(source_copy.common_settings(run_set).get("engine", ""))
    if ":" not in engine:
        return ""
    return (f"The engine {engine.translate(_MARKDOWN)} is not part of the source: put its module's "
            "folder on PYTHONPATH.\n\n")


def _readme_text(sets: list[PackedSet]) -> str:
    """Returns the README of the tree: a table of its sets."""
    rows = []
    for packed_set in sets:
        track = packed_set.run_set.track
        rows.append(f"| {packed_set.system} | {packed_set.benchmark} | "
                    f"{track.name if track else ''} | "
                    f"{packed_set.description.get('division')} | {len(packed_set.run_set.runs)} | "
                    f"{packed_set.score.result.seconds:.3f} | {packed_set.score.rule} |")
    return ("# Submission\n\n| system | benchmark | track | division | runs | score, s | rule |\n"
            "|---|---|---|---|---:|---:|---|\n" + "\n".join(rows) + "\n\nCheck it with "
            "`python -m compliance check .` from a checkout of the source, which is in "
            f"`benchmarks/<benchmark>/implementations/{source_copy.IMPLEMENTATION}`.\n")


def _write_text(path: Path, text: str, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if executable:
        path.chmod(0o755)


def _write_json(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _check_written_tree(root: Path) -> None:
    """Checks the written tree; a violation would be a defect of this module."""
    result = add_tree_results([root], check_paths([root]))
    reasons = [f"{v.rule}: {v.message}" for f in result.files for v in f.errors.list()]
    if reasons:
        raise PackagingError(reasons, result.verdict)
