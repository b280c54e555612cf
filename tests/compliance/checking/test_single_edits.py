"""No single edit makes a failing log pass or improves a result; the tests try all edits.

`python -m tests.compliance.checking.test_single_edits` prints the table of SECURITY.md.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compliance.checking.checker import check_file, check_sets
from compliance.checking.results import PASS, FileResult
from compliance.results.scoring import V05_TARGET, score_files
from tests.support.logs.edit_classes import CLASSES, V05_CLASSES, Passing, class_of, v05_class_of
from tests.support.logs.log_builder import Record, good_log, index_of, write_log
from tests.support.logs.run_sets import write_set
from tests.support.logs.single_edits import edits_of, v05_edits_of
from tests.support.paths import DATA, ROOT

EXAMPLE = ROOT / "results" / "example_amd-epyc-2cpu" / "ncf-ml-100k"
# A run may be shorter by this much: the clocks may differ by 1 s or by 10% of the run.
CLOCK_S, CLOCK_SHARE = 1.0, 0.1


def read_records(path: Path) -> list[Record]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line.split(":::MLLOG ", 1)[1]) for line in lines]


def set_of(result: FileResult) -> set[str]:
    return {violation.rule for violation in result.warnings.list()}


def better(before: FileResult, after: FileResult) -> str | None:
    """Returns the first figure that the edit improved; None if it improved none."""
    old, new = before.summary, after.summary
    if (new.target is None) != (old.target is None) \
            or old.target is not None and new.target < old.target:
        return "target"
    for name in ("best_accuracy", "last_accuracy"):
        was, now = getattr(old, name), getattr(new, name)
        if now is not None and (was is None or now[0] > was[0]):
            return name
    if new.seconds < old.seconds - max(CLOCK_S, CLOCK_SHARE * old.seconds):
        return "seconds"
    return "converged" if new.converged and not old.converged else None


def try_edits(folder: Path, records: list[Record], other: list[Record]) -> Counter:
    """Tries all edits of a good log.

    Returns:
      The number of edits ("edits"), of failures ("failures"), and of passing edits in each class.
    """
    path = write_log(folder / "a.txt", records)
    before = check_file(path)
    assert before.verdict == PASS
    division, is_aborted = before.summary.division, before.summary.status == "aborted"
    found: Counter = Counter()
    for edit, lines in edits_of(records, other):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        after = check_file(path)
        found["edits"] += 1
        if after.verdict != PASS:
            found["failures"] += 1
            continue
        assert better(before, after) is None, (better(before, after), edit)
        name = class_of(Passing(edit, records, frozenset(set_of(after) - set_of(before)),
                                division, is_aborted))
        assert name is not None, f"a passing edit has no class: {edit}"
        found[name] += 1
    return found


def good_logs() -> dict[str, tuple[list[Record], list[Record]]]:
    """Returns (a log that passes, a log of another run), by name."""
    return {
        "closed, as the harness writes it": (read_records(EXAMPLE / "result_1.txt"),
                                             read_records(EXAMPLE / "result_2.txt")),
        "closed": (good_log(epochs=2), good_log(epochs=3, seed=2)),
        "closed, aborted": (good_log(epochs=2, converged=False), good_log(epochs=3, seed=2)),
        "open": (good_log(epochs=2, division="open"),
                 good_log(epochs=3, seed=2, division="open"))}


@pytest.mark.slow
@pytest.mark.parametrize("name", good_logs())
def test_no_edit_of_a_good_log_makes_it_better(tmp_path, name):
    try_edits(tmp_path, *good_logs()[name])


@pytest.mark.slow
def test_every_class_is_met(tmp_path):
    """A class without edits would hide a later gap in the rules."""
    found = sum((try_edits(tmp_path, *pair) for pair in good_logs().values()), Counter())
    assert set(found) == {"edits", "failures", *(name for name, *_ in CLASSES)}


# -- sets ----------------------------------------------------------------------------


def try_set_edits(folder: Path) -> Counter:
    """Tries all edits of the first log of a set of five."""
    write_set(folder, [2, 3, 2, 3, 2])
    paths = [folder / f"result_{i}.txt" for i in range(5)]

    def check_set(first: FileResult) -> list[FileResult]:
        files = [first, *map(check_file, paths[1:])]
        check_sets(files)
        return files

    before = check_set(check_file(paths[0]))
    score = score_files(before).result.seconds
    assert score is not None
    records, found = read_records(paths[0]), Counter()
    for edit, lines in edits_of(records, read_records(paths[1])):
        paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
        first = check_file(paths[0])
        found["edits"] += 1
        files = check_set(first) if first.verdict == PASS else [first]
        if any(file.verdict != PASS for file in files):
            found["failures"] += 1
            continue
        assert better(before[0], first) is None, edit
        new = score_files(files).result.seconds
        assert new is None or new >= score - max(CLOCK_S, CLOCK_SHARE * score), edit
        name = class_of(Passing(edit, records, frozenset(set_of(first) - set_of(before[0])),
                                "closed", False))
        assert name is not None, f"a passing edit has no class: {edit}"
        found[name] += 1
    return found


@pytest.mark.slow
def test_no_edit_of_a_log_makes_its_set_better(tmp_path):
    try_set_edits(tmp_path / "s")


# -- logs that fail ------------------------------------------------------------------


def _lower_the_target(records: list[Record]) -> None:
    """Lowers the target to 0.1 in all records; the run stopped at it."""
    records[index_of(records, "eval_target")]["value"] = 0.1
    records[index_of(records, "configuration")]["value"]["target"] = 0.1


def _call_it_a_success(records: list[Record]) -> None:
    records[-1]["metadata"].update(status="success", reason="target")


def _draw_before_the_clock(records: list[Record]) -> None:
    for record in records:
        if record["key"] == "train_neg_gen_start":
            record["metadata"]["negatives"] = "before_clock"


def _choose_the_seed(records: list[Record]) -> None:
    records[index_of(records, "seed")]["metadata"]["deterministic"] = True
    records[index_of(records, "configuration")]["value"]["base_seed"] = 1


def _run_in_no_time(records: list[Record]) -> None:
    start = records[index_of(records, "run_start")]["time_ms"]
    for record in records:
        record["time_ms"] = min(record["time_ms"], start)
    records[-1]["metadata"]["wall_time_ms"] = start


def _evaluate_fewer_users(records: list[Record]) -> None:
    for record in records:
        if record["key"] in ("eval_num_users", "dataset_num_users"):
            record["value"] = 900
        if record["key"] == "eval_samples":
            record["value"] = 900 * 1000
        if record["key"] == "eval_accuracy":
            record["metadata"]["samples_count"] = 900 * 1000


def _rank_fewer_negatives(records: list[Record]) -> None:
    records[index_of(records, "eval_num_negatives")]["value"] = 99
    for record in records:
        if record["key"] == "eval_samples":
            record["value"] = 943 * 100
        if record["key"] == "eval_accuracy":
            record["metadata"]["samples_count"] = 943 * 100


# By name: (whether the run converged, the fault).
FAULTS: dict[str, tuple[bool, Any]] = {
    "a lower target": (True, _lower_the_target),
    "a success below the target": (False, _call_it_a_success),
    "negatives before the clock": (True, _draw_before_the_clock),
    "a chosen seed": (True, _choose_the_seed),
    "a run of no time": (True, _run_in_no_time),
    "fewer users": (True, _evaluate_fewer_users),
    "fewer negatives": (True, _rank_fewer_negatives)}


def faulty_log(name: str) -> list[Record]:
    converged, fault = FAULTS[name]
    records = copy.deepcopy(good_log(epochs=2, converged=converged))
    fault(records)
    return records


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_no_edit_makes_a_failing_log_pass(tmp_path, name):
    """Each fault appears consistently in several records, as a program would log it."""
    records = faulty_log(name)
    path = write_log(tmp_path / "a.txt", records)
    assert check_file(path).verdict != PASS
    for edit, lines in edits_of(records, good_log(epochs=3, seed=2)):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert check_file(path).verdict != PASS, edit


# -- the v0.5 dialect -------------------------------------------------------------


def try_v05_edits(folder: Path) -> Counter:
    """Tries all edits of a log that passes level 2."""
    folder.mkdir(exist_ok=True)
    (folder / "entry.json").write_text('{"division": "closed"}')
    lines = (DATA / "good" / "v05_level2.txt").read_text(encoding="utf-8").splitlines()
    path, found = folder / "result_0.txt", Counter()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert check_file(path).ruleset == "ncf-v0.5-l2" and check_file(path).verdict == PASS
    for edit, edited in v05_edits_of(lines):
        path.write_text("\n".join(edited) + "\n", encoding="utf-8")
        result = check_file(path)
        found["edits"] += 1
        if result.verdict != PASS:
            found["failures"] += 1
            continue
        # 100 such logs would have a score, so the log must have the rule's target and take time.
        if score_files([result]).result.reason == "1 of 100 runs":
            assert result.summary.target == V05_TARGET and result.summary.seconds > 0, edit
        name = v05_class_of(edit)
        assert name is not None, f"a passing edit has no class: {edit}"
        found[name] += 1
    return found


@pytest.mark.slow
def test_an_edit_that_level_2_passes_belongs_to_a_class(tmp_path):
    found = try_v05_edits(tmp_path / "v05")
    assert set(found) == {"edits", "failures", *(name for name, *_ in V05_CLASSES)}


# -- the table -----------------------------------------------------------------------


def table() -> str:
    """Returns the counts as Markdown, with one row per log and one per class."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {title: try_edits(folder, *pair) for title, pair in good_logs().items()}
        counts["the first of a set of five"] = try_set_edits(folder / "s")
        counts["v0.5, level 2"] = try_v05_edits(folder / "v05")
    rows = ["| log | edits | fail | pass |", "|---|---|---|---|"]
    for title, found in counts.items():
        edits, failures = found["edits"], found["failures"]
        rows.append(f"| {title} | {edits:,} | {failures:,} | {edits - failures:,} |")
    total = sum(counts.values(), Counter())
    rows += ["", "| class of edits that pass | edits | reason |", "|---|---|---|"]
    rows += [f"| {title} | {total[title]:,} | {reason} |"
             for title, reason, _ in [*CLASSES, *V05_CLASSES]]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
