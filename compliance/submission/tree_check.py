"""`check TREE`: a submission as a whole, ours or anybody's.

Two layouts are known.  MLPerf's submission rules ("Directory structure",
Training): `systems/<system>.json`, `benchmarks/<benchmark>/implementations/…` and
`results/<system>/<benchmark>/result_<i>.txt`.  And that of v0.5:
`results/<entry>/<benchmark>/result_<i>.txt` with `results/<entry>/entry.json`,
code under `code/`.  The logs are judged by their own rules; what is judged here is
whether the pieces are there and agree with each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable

from compliance.base.untrusted_files import read_bounded
from compliance.checking.results import CheckResult, FileResult
from compliance.checking.ruleset import Rule, Ruleset
from compliance.logs.find_logs import natural_key
from compliance.results.scoring import score_judged
from compliance.tracks import BUILTIN_TRACKS, load_track

NAME = "submission-tree"
MAX_DESCRIPTION = 1 << 20
_LAYOUT = "MLPerf submission rules, Directory structure (Training)"
_METADATA = "MLPerf submission rules, <system_desc_id>.json metadata"

# What mlperf_logging's system_desc_checker wants to find in a description.
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
# Those without which nobody knows what was measured; they may not be empty.
CORE_FIELDS = ("submitter", "division", "status", "system_name", "number_of_nodes",
               "host_processors_per_node", "host_processor_model_name", "host_memory_capacity",
               "accelerators_per_node", "framework", "other_software_stack", "operating_system")
# Those for which the rules require a meaningful answer besides.
TOLD_FIELDS = ("host_storage_type", "host_storage_capacity", "host_networking",
               "host_networking_topology", "host_memory_configuration", "cooling")
ENTRY_FIELDS = ("division", "status", "hardware", "framework", "power", "notes", "interconnect",
                "os", "libraries", "compilers", "nodes")
SCRIPTS = ("setup.sh", "run_and_time.sh")


def _rule(identity: str, what: str, reason: str, fix: str, source: str,
          severity: str = "error") -> Rule:
    return Rule(identity, severity, "tree", {"what": what}, reason, fix, source)


TREE_RULES: dict[str, Rule] = {rule.id: rule for rule in (
    _rule("NCF-TREE-SYSTEM", "results/<system> has systems/<system>.json (v0.5: entry.json)",
          "A time means nothing without the system that it was measured on",
          "Add the description of the system", _LAYOUT),
    _rule("NCF-TREE-SYSTEM-FIELDS", "the description is an object with every field",
          "Reviewers compare systems by these fields",
          "Add the fields; \"N/A\" or an empty text where nothing applies",
          f"{_METADATA}; mlperf_logging.system_desc_checker"),
    _rule("NCF-TREE-SYSTEM-EMPTY", "fields that need a meaningful answer have one",
          "What the program cannot know, the submitter has to say",
          "Fill in the fields", _METADATA, "warning"),
    _rule("NCF-TREE-DIVISION", "descriptions and logs name one division",
          "All results of a submission are made under the rules of one division",
          "Give each division a tree of its own", "MLPerf submission rules, Submission Result Set"),
    _rule("NCF-TREE-PLATFORM", "the logs name the system whose folder they are in",
          "Logs of another system would be credited to this one",
          "Put the logs into the folder of their own system", _LAYOUT),
    _rule("NCF-TREE-BENCHMARK", "the folder is that of the logs' track",
          "Tools find a benchmark's results by the folder's name",
          "Rename the folder as the track has it", "tracks/*.yaml, benchmark"),
    _rule("NCF-TREE-NUMBERS", "logs are numbered from 0 without gaps",
          "A gap may be a run that was taken out because it was slow",
          "Submit the whole set as it was run", _LAYOUT),
    _rule("NCF-TREE-FILES", "a benchmark's folder holds its logs and nothing else",
          "Other files there are mistaken for results", "Move them elsewhere", _LAYOUT, "warning"),
    _rule("NCF-TREE-SCORE", "each set has a score",
          "A submission is for its score", "See the reason; submit a whole, valid set",
          "MLPerf training rules, Benchmark results; scoring.py"),
    _rule("NCF-TREE-CODE", "benchmarks/<benchmark>/implementations holds the code",
          "The source must be sufficient to reproduce the results",
          "Add the implementation", f"{_LAYOUT}; Source code requirements for replication"),
    _rule("NCF-TREE-README", "the implementation has a README",
          "Reviewers must be able to repeat the run", "Add a README with the commands",
          f"{_LAYOUT}; Source code requirements for training inspection"),
    _rule("NCF-TREE-SCRIPTS", "the implementation has setup.sh and run_and_time.sh",
          "Reviewers must be able to repeat the run", "Add the script", _LAYOUT),
    _rule("NCF-TREE-V05-CODE", "a v0.5 tree has code/ beside results/",
          "The source must be sufficient to reproduce the results", "Add the code",
          "MLPerf v0.5 submission rules", "warning"),
    _rule("NCF-TREE-NO-RESULTS", "every described system has results",
          "A description without results is a forgotten or mistyped folder",
          "Add the results or remove the description", _LAYOUT, "warning"))}


def ruleset() -> Ruleset:
    """The rules of trees, for `rules`."""
    return Ruleset(NAME, "A submission tree as a whole", "tree", tuple(TREE_RULES.values()))


def trees_under(path: Path) -> list[Path]:
    """The folder itself if it is a submission tree, else those of its folders that are."""
    if is_tree(path):
        return [path]
    try:
        return [p for p in sorted(path.iterdir()) if p.is_dir() and is_tree(p)]
    except OSError:
        return []


def with_trees(paths: Iterable[str | Path], result: CheckResult) -> CheckResult:
    """What `check` said, with an entry for each submission tree among the paths."""
    trees = [tree for path in map(Path, paths) if path.is_dir() for tree in trees_under(path)]
    found = [check_tree(tree, [f for f in result.files if tree in Path(f.path).parents])
             for tree in trees]
    return CheckResult(result.ruleset, [*result.files, *found])


def is_tree(path: Path) -> bool:
    """Whether a folder is laid out as a submission: results, and systems beside or in it."""
    results = path / "results"
    if not results.is_dir():
        return False
    return any((path / name).is_dir() for name in ("systems", "benchmarks")) \
        or any(results.glob("*/entry.json"))


@dataclass(frozen=True)
class _Tree:
    root: Path
    result: FileResult

    def report(self, rule: str, message: str) -> None:
        self.result.add(TREE_RULES[rule], None, message)


def check_tree(root: Path, files: Iterable[FileResult]) -> FileResult:
    """Judges the tree around its logs, which `files` holds as `check` judged them."""
    result = FileResult(str(root))
    result.ruleset = NAME
    tree = _Tree(root, result)
    groups: dict[Path, list[FileResult]] = {}
    for file in files:
        groups.setdefault(Path(file.path).parent, []).append(file)
    results = root / "results"
    divisions: dict[str, str] = {}
    for system in sorted((p for p in results.iterdir() if p.is_dir()), key=natural_key):
        described = _check_system(tree, system)
        sets = {folder: found for folder, found in groups.items() if folder.parent == system}
        for folder, found in sets.items():
            _check_set(tree, system.name, folder, found, described)
        divisions.update({f"results/{system.name}": d for d in [described] if d})
    if len(set(divisions.values())) > 1:
        tree.report("NCF-TREE-DIVISION", "several divisions in one tree: " + ", ".join(
            f"{name} {division}" for name, division in divisions.items()))
    for description in sorted((root / "systems").glob("*.json")):
        if not (results / description.stem).is_dir():
            tree.report("NCF-TREE-NO-RESULTS", f"systems/{description.name} has no folder "
                        f"results/{description.stem}")
    return result


def _check_system(tree: _Tree, system: Path) -> str | None:
    """Judges a system's description; returns the division that it names."""
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
    for rule, message in description_problems(data, path == entry):
        tree.report(rule, f"{name} {message}")
    division = data.get("division")
    return division.strip().lower() if isinstance(division, str) and division.strip() else None


def read_description(path: Path) -> tuple[dict[str, Any], str | None]:
    """(the object in a description, why there is none)."""
    try:
        data = json.loads(read_bounded(path, MAX_DESCRIPTION).decode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return {}, "cannot be read as JSON"
    return (data, None) if isinstance(data, dict) else ({}, "is no JSON object")


def description_problems(data: dict[str, Any], of_v05: bool) -> list[tuple[str, str]]:
    """(rule, message) for what a system's description lacks."""
    wanted = ENTRY_FIELDS if of_v05 else SYSTEM_FIELDS
    missing = [f for f in wanted if f not in data]
    found = []
    if missing:
        found.append(("NCF-TREE-SYSTEM-FIELDS", f"lacks {', '.join(missing)}"))
    if of_v05:
        return found
    empty = [f for f in CORE_FIELDS if f in data and not str(data[f]).strip()]
    if empty:
        found.append(("NCF-TREE-SYSTEM-FIELDS", f"leaves {', '.join(empty)} empty"))
    untold = [f for f in TOLD_FIELDS if f in data and not str(data[f]).strip()]
    if untold:
        found.append(("NCF-TREE-SYSTEM-EMPTY", f"leaves {', '.join(untold)} empty"))
    return found


def _check_set(tree: _Tree, system: str, folder: Path, files: list[FileResult],
               described: str | None) -> None:
    """Judges one results/<system>/<benchmark>."""
    name = folder.relative_to(tree.root).as_posix()
    if all(f.ruleset is None for f in files):
        return  # another benchmark, of which nothing is known here
    for rule, message in set_problems(folder, system, files, described):
        tree.report(rule, f"{name}: {message}")
    score = score_judged(files)
    if score.outcome.seconds is None:
        tree.report("NCF-TREE-SCORE", f"{name}: no score: {score.outcome.reason}")
    if (folder.parent / "entry.json").exists():
        if not any((tree.root / code).is_dir() for code in ("code", "benchmarks")):
            tree.report("NCF-TREE-V05-CODE", f"there is no code/{folder.name}")
        return
    _check_code(folder.name, tree.root, tree.report)


def set_problems(folder: Path, system: str, files: list[FileResult],
                 described: str | None) -> list[tuple[str, str]]:
    """(rule, message) for what the logs of a set and its place contradict."""
    found = []
    names = sorted(p.name for p in folder.iterdir())
    wanted = [f"result_{i}.txt" for i in range(len(files))]
    if sorted(Path(f.path).name for f in files) != sorted(wanted):
        gap = next(w for w in wanted if w not in names)
        found.append(("NCF-TREE-NUMBERS", f"{gap} is missing among {len(files)} logs"))
    others = [n for n in names if n not in {Path(f.path).name for f in files}]
    if others:
        found.append(("NCF-TREE-FILES", f"other things than logs: {', '.join(others[:5])}"))
    tracks = {f.facts.track for f in files if f.dialect == "mllog"}
    benchmarks = {load_track(t).benchmark for t in tracks if t in BUILTIN_TRACKS}
    if any(f.dialect == "v0.5" for f in files):
        benchmarks.add("ncf")
    if benchmarks and benchmarks != {folder.name}:
        found.append(("NCF-TREE-BENCHMARK", f"the logs belong into a folder "
                                            f"{' or '.join(sorted(benchmarks))}"))
    divisions = {f.facts.division for f in files if f.facts.division}
    if described and divisions - {described}:
        found.append(("NCF-TREE-DIVISION", f"the logs say {', '.join(sorted(divisions))}, the "
                                           f"system's description says {described}"))
    platforms = {f.facts.first["submission_platform"].value for f in files
                 if "submission_platform" in f.facts.first}
    wrong = sorted(str(p) for p in platforms if p != system)
    if wrong:
        found.append(("NCF-TREE-PLATFORM", f"the logs are of system {', '.join(wrong)[:200]}"))
    return found


def _check_code(benchmark: str, root: Path, report: Callable[[str, str], None]) -> None:
    place = root / "benchmarks" / benchmark / "implementations"
    name = place.relative_to(root).as_posix()
    files = {p.name.lower() for p in place.rglob("*") if p.is_file()} if place.is_dir() else set()
    if not files:
        report("NCF-TREE-CODE", f"{name} is missing or empty")
        return
    if not any(f.startswith("readme") for f in files):
        report("NCF-TREE-README", f"no README under {name}")
    for script in SCRIPTS:
        if script not in files:
            report("NCF-TREE-SCRIPTS", f"no {script} under {name}")
