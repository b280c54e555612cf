"""`package DIR --output TREE`: results as an MLPerf submission tree.

    TREE/README.md
    TREE/systems/<system>.json
    TREE/results/<system>/<benchmark>/result_<i>.txt
    TREE/benchmarks/<benchmark>/implementations/neumf-bench/      the source
    TREE/benchmarks/<benchmark>/implementations/<system>/         README.md, setup.sh,
        init_datasets.sh, run_and_time.sh, <system>_neumf-bench.json

(MLPerf submission rules, "Directory structure", Training.)  Logs are copied byte
by byte.  The tree is made under a temporary name beside its place, checked as
`check` would, and renamed: it is there as a whole or not at all, and nothing that
exists is overwritten.
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
from compliance.results.run_set import RunSet, existing_folder, read_set
from compliance.results.scoring import Score, score_judged
from compliance.submission import source_copy
from compliance.submission.tree_check import (
    description_problems,
    read_description,
    set_problems,
    with_trees,
)

# Folders of a results tree that hold no sets: see the harness's result tree.
_NO_SETS = ("attempts", "reports", "logs")


@dataclass(frozen=True)
class Set:
    """A set to be packed, with what was found out about it."""

    system: str
    folder: Path
    runs: RunSet
    score: Score
    description: dict[str, Any]

    @property
    def benchmark(self) -> str:
        """The name of its folder."""
        return self.folder.name


class Refused(Exception):
    """Nothing was written; `reasons` says why, one line each; `verdict`: of the logs."""

    def __init__(self, reasons: list[str], verdict: str | None) -> None:
        super().__init__(reasons[0])
        self.reasons, self.verdict = reasons, verdict


@dataclass(frozen=True)
class Packed:
    """What was written."""

    tree: Path
    sets: list[Set]
    files: int


def package(folder: str | Path, output: str | Path, source: Path | None = None) -> Packed:
    """Writes the tree.  Raises UsageError, Refused, OSError.

    folder: results, results/<system> or results/<system>/<benchmark>.
    source: the project's folder (default: the one that this module lies in).
    """
    folder, output = existing_folder(folder).resolve(), Path(os.path.abspath(output))
    if os.path.lexists(output):
        raise UsageError(f"{output} exists; nothing is overwritten, name another folder")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: there is no such folder to put the tree in; make "
                         "it first")
    if folder == output or folder in output.parents:
        raise UsageError(f"{output} lies within the results; name a place outside")
    source = source or source_copy.PROJECT
    reasons, verdict, sets = _look(folder)
    reasons += source_copy.missing(source)
    if reasons:
        raise Refused(reasons, verdict)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, sets, source)
        _recheck(temporary)
        count = sum(path.is_file() for path in temporary.rglob("*"))
        os.rename(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Packed(output, sets, count)


def _look(folder: Path) -> tuple[list[str], str | None, list[Set]]:
    """(why the results cannot be packed, the logs' verdict, the sets)."""
    groups: dict[Path, list[Path]] = {}
    for log in find_logs(folder):
        if not set(log.relative_to(folder).parts[:-1]) & set(_NO_SETS):
            groups.setdefault(log.parent, []).append(log)
    if not groups:
        raise UsageError(f"{folder}: no result_*.txt but in {', '.join(_NO_SETS)}")
    reasons: list[str] = []
    verdicts: set[str] = set()
    sets = []
    for place, logs in groups.items():
        runs = read_set(logs, "auto")
        score = score_judged(runs.files)
        verdicts.add(score.verdict if score.outcome.seconds is not None or
                     score.verdict == UNREADABLE else FAIL)
        description, problems = _describe(place.parent)
        division = str(description.get("division", "")).strip().lower() or None
        problems += [f"{place}: {m}" for rule, m in
                     set_problems(place, place.parent.name, runs.files, division)
                     if rule != "NCF-TREE-FILES"]
        if runs.track is None:
            problems.append(f"{place}: the logs are not of one built-in track")
        if any(f.dialect != "mllog" for f in runs.files):
            problems.append(f"{place}: only MLLOG sets are packed")
        if score.outcome.seconds is None:
            problems.append(f"{place}: no score: {score.outcome.reason}")
        reasons += [p for p in problems if p not in reasons]
        sets.append(Set(place.parent.name, place, runs, score, description))
    if len({str(s.description.get("division")).lower() for s in sets}) > 1:
        reasons.append("the sets are of several divisions; give each a tree of its own")
    worst = FAIL if FAIL in verdicts else UNREADABLE if UNREADABLE in verdicts else None
    return reasons, worst, sets


def _describe(system: Path) -> tuple[dict[str, Any], list[str]]:
    """(the system's description, what is wrong with it)."""
    path = system / "system.json"
    if not path.is_file():
        return {}, [f"{path} is missing: the description of the system"]
    data, problem = read_description(path)
    if problem:
        return {}, [f"{path} {problem}"]
    return data, [f"{path} {message}" for rule, message in description_problems(data, False)
                  if rule == "NCF-TREE-SYSTEM-FIELDS"]


def _write(root: Path, sets: list[Set], source: Path) -> None:
    root.mkdir()
    _text(root / "README.md", _readme(sets))
    for one in sets:
        results = root / "results" / one.system / one.benchmark
        results.mkdir(parents=True)
        for file in one.runs.files:
            shutil.copyfile(file.path, results / Path(file.path).name)
        _json(root / "systems" / f"{one.system}.json", one.description)
        place = root / "benchmarks" / one.benchmark / "implementations"
        if not (place / source_copy.NAME).exists():
            source_copy.copy(source, place / source_copy.NAME)
        _write_scripts(place / one.system, one)


def _write_scripts(place: Path, one: Set) -> None:
    flags = source_copy.flags_of(one.runs, one.system)
    shown = " ".join(shlex.quote(f) for f in flags)
    track = one.runs.track
    name = track.name if track else ""
    project = f'cd "$(dirname "${{BASH_SOURCE[0]}}")/../{source_copy.NAME}"'
    for file, what, rest in (
            ("setup.sh", "One-time set-up: installs what run_and_time.sh needs.",
             "--help >/dev/null"),
            ("init_datasets.sh", "One-time: fetches and prepares the dataset.",
             f'--track={shlex.quote(name)} --prepare_only "$@"'),
            ("run_and_time.sh", "Runs the benchmark as these results were made.", f'{shown} "$@"')):
        _text(place / file, f"#!/usr/bin/env bash\n# {what}\nset -eu\n{project}\n"
              f"exec bash run_and_time.sh {rest}\n", executable=True)
    _json(place / f"{one.system}_{source_copy.NAME}.json", {
        "system": one.system, "implementation": source_copy.NAME, "benchmark": one.benchmark,
        "track": name, "settings": source_copy.settings_of(one.runs)})
    _text(place / "README.md", f"# {one.benchmark} on {one.system}\n\nTrack {name}. "
          "Once:\n\n    ./setup.sh\n    ./init_datasets.sh\n\nThen:\n\n    ./run_and_time.sh\n\n"
          f"which is, in `../{source_copy.NAME}`:\n\n    ./run_and_time.sh {shown}\n\n"
          f"The source's own README is `../{source_copy.NAME}/README.md`.\n")


def _readme(sets: list[Set]) -> str:
    rows = []
    for one in sets:
        track = one.runs.track
        rows.append(f"| {one.system} | {one.benchmark} | {track.name if track else ''} | "
                    f"{one.description.get('division')} | {len(one.runs.runs)} | "
                    f"{one.score.outcome.seconds:.3f} | {one.score.rule} |")
    return ("# Submission\n\n| system | benchmark | track | division | runs | score, s | rule |\n"
            "|---|---|---|---|---:|---:|---|\n" + "\n".join(rows) + "\n\nJudge it with "
            "`python -m compliance check .` from a checkout of the source, which lies in "
            f"`benchmarks/<benchmark>/implementations/{source_copy.NAME}`.\n")


def _text(path: Path, text: str, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if executable:
        path.chmod(0o755)


def _json(path: Path, value: Any) -> None:
    _text(path, json.dumps(value, indent=2) + "\n")


def _recheck(root: Path) -> None:
    """The finished tree must pass; a fault here is one of this module."""
    result = with_trees([root], check_paths([root]))
    found = [f"{v.rule}: {v.message}" for f in result.files for v in f.errors.list()]
    if found:
        raise Refused(found, result.verdict)
