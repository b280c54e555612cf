"""`check TREE`: checks a submission tree as a whole.

Two layouts are supported. The first is that of MLPerf's submission rules ("Directory
structure", Training): `systems/<system>.json`,
`benchmarks/<benchmark>/implementations/...` and
`results/<system>/<benchmark>/result_<i>.txt`. The second is that of v0.5:
`results/<entry>/<benchmark>/result_<i>.txt` with `results/<entry>/entry.json`, and code
under `code/`. The logs are checked by their own rules; this module checks whether the
parts of the tree are present and agree with each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

from compliance.base.untrusted_files import read_bounded
from compliance.checking.checks.sets import equal_measurements
from compliance.checking.results import CheckResult, FileResult
from compliance.checking.ruleset import Rule, Ruleset
from compliance.logs.find_logs import natural_sort_key
from compliance.results.scoring import score_checked_set
from compliance.tracks import BUILTIN_TRACKS, load_track

RULESET_NAME = "submission-tree"
MAX_DESCRIPTION_BYTES = 1 << 20
_LAYOUT_SOURCE = "MLPerf submission rules, Directory structure (Training)"
_METADATA_SOURCE = "MLPerf submission rules, <system_desc_id>.json metadata"

# Fields that mlperf_logging's system_desc_checker requires in a description.
SYSTEM_FIELDS = (
    "submitter", "division", "status", "system_name", "number_of_nodes",
    "host_processors_per_node", "host_processor_model_name", "host_processor_core_count",
    "host_processor_vcpu_count", "host_processor_frequency", "host_processor_caches",
    "host_processor_interconnect", "host_memory_capacity", "host_storage_type",
    "host_storage_capacity", "host_networking", "host_networking_topology",
    "host_memory_configuration", "accelerators_per_node", "accelerator_model_name",
    "accelerator_host_interconnect", "accelerator_frequency", "accelerator_on-chip_memories",
    "accelerator_memory_configuration", "accelerator_memory_capacity",
    "accelerator_interconnect", "accelerator_interconnect_topology", "cooling", "hw_notes",
    "framework", "other_software_stack", "operating_system", "sw_notes")
# Fields that must not be empty, since they identify the measured system.
REQUIRED_FIELDS = ("submitter", "division", "status", "system_name", "number_of_nodes",
                   "host_processors_per_node", "host_processor_model_name", "host_memory_capacity",
                   "accelerators_per_node", "framework", "other_software_stack", "operating_system")
# Further fields for which the rules require a meaningful answer.
MEANINGFUL_FIELDS = ("host_storage_type", "host_storage_capacity", "host_networking",
                     "host_networking_topology", "host_memory_configuration", "cooling")
V05_ENTRY_FIELDS = ("division", "status", "hardware", "framework", "power", "notes", "interconnect",
                    "os", "libraries", "compilers", "nodes")
REQUIRED_SCRIPTS = ("setup.sh", "run_and_time.sh")


def _tree_rule(identity: str, what: str, reason: str, fix: str, source: str,
               severity: str = "error") -> Rule:
    """Returns a rule of trees; `what` is its requirement."""
    return Rule(identity, severity, "tree", {"what": what}, reason, fix, source)


TREE_RULES: dict[str, Rule] = {rule.id: rule for rule in (
    _tree_rule("NCF-TREE-SYSTEM", "results/<system> has systems/<system>.json (v0.5: entry.json)",
               "A time means nothing without the system that it was measured on",
               "Add the description of the system", _LAYOUT_SOURCE),
    _tree_rule("NCF-TREE-SYSTEM-FIELDS", "the description is an object with every field",
               "Reviewers compare systems by these fields",
               "Add the fields; use \"N/A\" or an empty text if a field does not apply",
               f"{_METADATA_SOURCE}; mlperf_logging.system_desc_checker"),
    _tree_rule("NCF-TREE-SYSTEM-EMPTY", "fields that need a meaningful answer have one",
               "The submitter must supply values that the program cannot determine",
               "Fill in the fields", _METADATA_SOURCE, "warning"),
    _tree_rule("NCF-TREE-DIVISION", "descriptions and logs name one division",
               "All results of a submission follow the rules of one division",
               "Create a separate tree for each division",
               "MLPerf submission rules, Submission Result Set"),
    _tree_rule("NCF-TREE-PLATFORM", "the logs name the system whose folder they are in",
               "Logs of another system would be credited to this one",
               "Put the logs into the folder of their own system", _LAYOUT_SOURCE),
    _tree_rule("NCF-TREE-BENCHMARK", "the folder has the name of the benchmark in the logs' track",
               "Tools find a benchmark's results by the folder's name",
               "Rename the folder to the benchmark in the track file", "tracks/*.yaml, benchmark"),
    _tree_rule("NCF-TREE-RUN-TWICE", "no run is a result of two sets",
               "A run was measured on one system for one benchmark",
               "Submit each run once", "the benchmark's definitions"),
    _tree_rule("NCF-TREE-PARALLEL", "the runs of a system do not overlap in time",
               "Concurrent runs slow each other down",
               "Nothing if the system is divided between the runs; else run one after the other",
               "the benchmark's definitions", "warning"),
    _tree_rule("NCF-TREE-NUMBERS", "logs are numbered from 0 without gaps",
               "A gap may be a run that was removed because it was slow",
               "Submit the complete set", _LAYOUT_SOURCE),
    _tree_rule("NCF-TREE-FILES", "a benchmark's folder contains only its logs",
               "Other files there are mistaken for results", "Move them to another folder",
               _LAYOUT_SOURCE, "warning"),
    _tree_rule("NCF-TREE-SCORE", "each set has a score",
               "The score is the result of a submission",
               "See the reason; submit a complete, valid set",
               "MLPerf training rules, Benchmark results; scoring.py"),
    _tree_rule("NCF-TREE-CODE", "benchmarks/<benchmark>/implementations contains the code",
               "The source must be sufficient to reproduce the results",
               "Add the implementation",
               f"{_LAYOUT_SOURCE}; Source code requirements for replication"),
    _tree_rule("NCF-TREE-README", "the implementation has a README",
               "Reviewers must be able to repeat the run", "Add a README with the commands",
               f"{_LAYOUT_SOURCE}; Source code requirements for training inspection"),
    _tree_rule("NCF-TREE-SCRIPTS", "the implementation has setup.sh and run_and_time.sh",
               "Reviewers must be able to repeat the run", "Add the script", _LAYOUT_SOURCE),
    _tree_rule("NCF-TREE-V05-CODE", "a v0.5 tree has code/ beside results/",
               "The source must be sufficient to reproduce the results", "Add the code",
               "MLPerf v0.5 submission rules", "warning"),
    _tree_rule("NCF-TREE-NO-RESULTS", "every described system has results",
               "A description without results is a forgotten or mistyped folder",
               "Add the results or remove the description", _LAYOUT_SOURCE, "warning"))}


def tree_ruleset() -> Ruleset:
    """Returns the rules of trees as a ruleset, for `rules`."""
    return Ruleset(RULESET_NAME, "A submission tree as a whole", "tree", tuple(TREE_RULES.values()))


def find_submission_trees(path: Path) -> list[Path]:
    """Returns the folder itself if it is a submission tree, else its subfolders that are trees."""
    if is_submission_tree(path):
        return [path]
    try:
        return [p for p in sorted(path.iterdir()) if p.is_dir() and is_submission_tree(p)]
    except OSError:
        return []


def add_tree_results(paths: Iterable[str | Path], result: CheckResult) -> CheckResult:
    """Adds an entry for each submission tree to the answer of `check`.

    Args:
      paths: The paths that `check` was given.
      result: The checker's results on the logs.

    Returns:
      The results on the logs, followed by one for each submission tree among the paths.
    """
    folders = [path for path in map(Path, paths) if path.is_dir()]
    trees = [tree for folder in folders for tree in find_submission_trees(folder)]
    found = [check_submission_tree(tree, [f for f in result.files if tree in Path(f.path).parents])
             for tree in trees]
    return CheckResult(result.ruleset, [*result.files, *found])


def is_submission_tree(path: Path) -> bool:
    """Whether a folder has the layout of a submission: results, with descriptions."""
    results = path / "results"
    if not results.is_dir():
        return False
    return any((path / name).is_dir() for name in ("systems", "benchmarks")) \
        or any(results.glob("*/entry.json"))


@dataclass(frozen=True)
class _TreeChecker:
    """A tree's root and the result that collects its violations."""
    root: Path
    result: FileResult

    def report(self, rule: str, message: str) -> None:
        """Adds a violation of the rule with this id."""
        self.result.add(TREE_RULES[rule], None, message)

    def name_of(self, file: FileResult) -> str:
        """The path of a log relative to the tree's root."""
        return Path(file.path).relative_to(self.root).as_posix()


def check_submission_tree(root: Path, files: Iterable[FileResult]) -> FileResult:
    """Checks a submission tree without its logs.

    Args:
      root: The tree's folder.
      files: The checker's results on the logs in the tree.

    Returns:
      The result on the tree as a whole.
    """
    result = FileResult(str(root))
    result.ruleset = RULESET_NAME
    tree = _TreeChecker(root, result)
    groups: dict[Path, list[FileResult]] = {}
    for file in files:
        groups.setdefault(Path(file.path).parent, []).append(file)
    results = root / "results"
    divisions: dict[str, str] = {}
    for system in sorted((p for p in results.iterdir() if p.is_dir()), key=natural_sort_key):
        described_division = _check_system(tree, system)
        sets = {folder: found for folder, found in groups.items() if folder.parent == system}
        for folder, found in sets.items():
            _check_set(tree, system.name, folder, found, described_division)
        divisions.update({f"results/{system.name}": d for d in [described_division] if d})
    if len(set(divisions.values())) > 1:
        tree.report("NCF-TREE-DIVISION", "several divisions in one tree: " + ", ".join(
            f"{name} {division}" for name, division in divisions.items()))
    _check_sets_against_each_other(tree, groups)
    for description in sorted((root / "systems").glob("*.json")):
        if not (results / description.stem).is_dir():
            tree.report("NCF-TREE-NO-RESULTS", f"systems/{description.name} has no folder "
                        f"results/{description.stem}")
    return result


def _check_sets_against_each_other(tree: _TreeChecker,
                                   groups: Mapping[Path, list[FileResult]]) -> None:
    """Finds runs that are results of several sets, and sets of one system that overlap."""
    logs = [file for files in groups.values() for file in files
            if file.dialect == "mllog" and not file.unreadable]
    for place, file in enumerate(logs):
        for other in logs[:place]:
            what = None if Path(other.path).parent == Path(file.path).parent \
                else _shared_figures(file, other)
            if what is not None:
                tree.report("NCF-TREE-RUN-TWICE", f"{tree.name_of(file)} has the same {what} as "
                                                  f"{tree.name_of(other)}")
                break
    spans: list[tuple[Path, float, float, FileResult]] = []
    for file in logs:
        start, stop = map(file.summary.time, ("run_start", "run_stop"))
        if start is not None and stop is not None:
            spans.append((Path(file.path).parent.parent, start, stop, file))
    spans.sort(key=lambda span: (str(span[0]), span[1]))
    for (system, _, stop, file), (next_system, start, _, later) in zip(spans, spans[1:]):
        # Runs of one set are compared by NCF-SET-PARALLEL.
        if system == next_system and start < stop \
                and Path(file.path).parent != Path(later.path).parent:
            tree.report("NCF-TREE-PARALLEL", f"{tree.name_of(later)} starts {stop - start:.3f} s "
                                             f"before {tree.name_of(file)} ends")


def _shared_figures(file: FileResult, other: FileResult) -> str | None:
    """Returns the figures, unique to a run, that two logs of different sets share; None if none."""
    digests, other_digests = (f.set_values.get("data_digests", (None,))[0] for f in (file, other))
    if isinstance(digests, dict) and isinstance(other_digests, dict) \
            and digests.get("first_epoch") is not None \
            and digests.get("first_epoch") == other_digests.get("first_epoch"):
        return "digest of the first epoch"
    if file.summary.track != other.summary.track:
        return None
    if file.summary.attempt is not None and file.summary.attempt == other.summary.attempt \
            and file.summary.seed == other.summary.seed:
        return "attempt and seed"
    return equal_measurements(file.summary.measurements, other.summary.measurements)


def _check_system(tree: _TreeChecker, system: Path) -> str | None:
    """Checks a system's description and returns the division that it names."""
    entry = system / "entry.json"
    path = entry if entry.exists() else tree.root / "systems" / f"{system.name}.json"
    name = path.relative_to(tree.root).as_posix()
    if not path.is_file():
        tree.report("NCF-TREE-SYSTEM", f"{name} is missing")
        return None
    data, problem = read_description(path)
    if problem:
        tree.report("NCF-TREE-SYSTEM-FIELDS", f"{name} {problem}")
        return None
    for rule, message in find_description_problems(data, path == entry):
        tree.report(rule, f"{name} {message}")
    division = data.get("division")
    return division.strip().lower() if isinstance(division, str) and division.strip() else None


def read_description(path: Path) -> tuple[dict[str, Any], str | None]:
    """Reads a system's description.

    Args:
      path: The JSON file.

    Returns:
      (the object, None), or ({}, why it cannot be used).
    """
    try:
        data = json.loads(read_bounded(path, MAX_DESCRIPTION_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return {}, "cannot be read as JSON"
    return (data, None) if isinstance(data, dict) else ({}, "is not a JSON object")


def find_description_problems(data: dict[str, Any], of_v05: bool) -> list[tuple[str, str]]:
    """Finds the missing parts of a system's description.

    Args:
      data: The description.
      of_v05: Whether it is an entry.json of v0.5.

    Returns:
      (rule id, message) of each problem.
    """
    expected = V05_ENTRY_FIELDS if of_v05 else SYSTEM_FIELDS
    missing = [f for f in expected if f not in data]
    found = []
    if missing:
        found.append(("NCF-TREE-SYSTEM-FIELDS", f"lacks {', '.join(missing)}"))
    if of_v05:
        return found
    empty = [f for f in REQUIRED_FIELDS if f in data and not str(data[f]).strip()]
    if empty:
        found.append(("NCF-TREE-SYSTEM-FIELDS", f"leaves {', '.join(empty)} empty"))
    unanswered = [f for f in MEANINGFUL_FIELDS if f in data and not str(data[f]).strip()]
    if unanswered:
        found.append(("NCF-TREE-SYSTEM-EMPTY", f"leaves {', '.join(unanswered)} empty"))
    return found


def _check_set(tree: _TreeChecker, system: str, folder: Path, files: list[FileResult],
               described_division: str | None) -> None:
    """Checks one results/<system>/<benchmark>."""
    name = folder.relative_to(tree.root).as_posix()
    if all(f.ruleset is None for f in files):
        return  # another benchmark, which is not checked
    for rule, message in find_set_problems(folder, system, files, described_division):
        tree.report(rule, f"{name}: {message}")
    score = score_checked_set(files)
    if score.result.seconds is None:
        tree.report("NCF-TREE-SCORE", f"{name}: no score: {score.result.reason}")
    if (folder.parent / "entry.json").exists():
        if not any((tree.root / code).is_dir() for code in ("code", "benchmarks")):
            tree.report("NCF-TREE-V05-CODE", f"there is no code/{folder.name}")
        return
    _check_code(tree, folder.name)


def find_set_problems(folder: Path, system: str, files: list[FileResult],
                 described_division: str | None) -> list[tuple[str, str]]:
    """Finds contradictions between the logs of a set and its folder.

    Args:
      folder: The set's folder.
      system: The name of the system's folder.
      files: The checker's results on the logs.
      described_division: The division that the system's description names, or None.

    Returns:
      (rule id, message) of each problem.
    """
    found = []
    names = sorted(p.name for p in folder.iterdir())
    expected = [f"result_{i}.txt" for i in range(len(files))]
    if sorted(Path(f.path).name for f in files) != sorted(expected):
        gap = next(w for w in expected if w not in names)
        found.append(("NCF-TREE-NUMBERS", f"{gap} is missing among {len(files)} logs"))
    others = [n for n in names if n not in {Path(f.path).name for f in files}]
    if others:
        found.append(("NCF-TREE-FILES", f"not logs: {', '.join(others[:5])}"))
    tracks = {f.summary.track for f in files if f.dialect == "mllog"}
    benchmarks = {load_track(t).benchmark for t in tracks if t in BUILTIN_TRACKS}
    if any(f.dialect == "v0.5" for f in files):
        benchmarks.add("ncf")
    if benchmarks and benchmarks != {folder.name}:
        found.append(("NCF-TREE-BENCHMARK", f"the logs belong in a folder named "
                                            f"{' or '.join(sorted(benchmarks))}"))
    divisions = {f.summary.division for f in files if f.summary.division}
    if described_division and divisions - {described_division}:
        found.append(("NCF-TREE-DIVISION", f"the logs name {', '.join(sorted(divisions))}, the "
                                           f"system's description names {described_division}"))
    platforms = {f.summary.first_events["submission_platform"].value for f in files
                 if "submission_platform" in f.summary.first_events}
    wrong = sorted(str(p) for p in platforms if p != system)
    if wrong:
        found.append(("NCF-TREE-PLATFORM", f"the logs are of system {', '.join(wrong)[:200]}"))
    return found


def _check_code(tree: _TreeChecker, benchmark: str) -> None:
    """Checks the implementation of one benchmark."""
    implementations = tree.root / "benchmarks" / benchmark / "implementations"
    name = implementations.relative_to(tree.root).as_posix()
    files = {p.name.lower() for p in implementations.rglob("*") if p.is_file()} \
        if implementations.is_dir() else set()
    if not files:
        tree.report("NCF-TREE-CODE", f"{name} is missing or empty")
        return
    if not any(f.startswith("readme") for f in files):
        tree.report("NCF-TREE-README", f"no README under {name}")
    for script in REQUIRED_SCRIPTS:
        if script not in files:
            tree.report("NCF-TREE-SCRIPTS", f"no {script} under {name}")
