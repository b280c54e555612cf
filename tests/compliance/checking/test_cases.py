"""Logs that once got a wrong verdict; `cases/README.md` in the shared folder has the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from compliance.checking.checker import check_file, check_paths
from compliance.checking.results import FAIL, PASS, UNREADABLE
from compliance.results.scoring import score_folder
from tests.support.logs.log_builder import good_log, index_of, write_log
from tests.support.logs.run_sets import write_set

# Each case, and the rules that its logs break.
BROKEN_RULES = {
    "track_after_run_start": {"NCF-TARGET", "NCF-TRACK-PLACE"},
    "a05_chosen_seed_told": {"NCF-SEED-CHOSEN"},
    "a08_whole_run_in_0_ms": {"NCF-RUN-SECONDS"},
    "a11_same_run_five_times": {"NCF-SET-CURVES", "NCF-SET-DIGESTS"},
    "a14b_stats_before_interval": {"NCF-THROUGHPUT-TIMES"},
    "a38_negatives_before_clock_told_in_metadata": {"NCF-NEGATIVES-TIMED"},
    "a40_configuration_contradicts": {"NCF-CONFIGURATION-AGREES"},
}


def broken_rules(result) -> set[str]:
    return {violation.rule for file in result.files for violation in file.errors.list()}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_a_cheat_of_the_closed_division_fails_by_its_rule(name, shared_dir):
    result = check_paths([shared_dir / "cases" / "judge" / name])
    assert result.verdict == FAIL and broken_rules(result) >= BROKEN_RULES[name]
    assert score_folder(shared_dir / "cases" / "judge" / name).result.seconds is None


def test_one_log_takes_no_verdict_from_the_others(shared_dir):
    folder = shared_dir / "cases" / "judge" / "huge_ints_crash"
    verdicts = {Path(f.path).parent.name: f.verdict for f in check_paths([folder]).files}
    assert verdicts == {"good": PASS, "bad": FAIL}


def test_an_internal_error_is_the_verdict_of_its_file_alone(tmp_path, monkeypatch):
    """The reader of one file raises an exception, as an example of an unexpected error."""
    from compliance.checking import checker

    good = write_log(tmp_path / "good.txt", good_log())
    bad = write_log(tmp_path / "bad.txt", good_log())
    check_once = checker._check_once

    def fail_on_one(path, *args):
        if Path(path).name == "bad.txt":
            raise ZeroDivisionError("by\nzero")
        return check_once(path, *args)

    monkeypatch.setattr(checker, "_check_once", fail_on_one)
    result = check_paths([bad, good])
    assert [f.verdict for f in result.files] == [UNREADABLE, PASS]
    (violation,) = result.files[0].errors.list()
    assert violation.rule == "NCF-INTERNAL" and "ZeroDivisionError" in violation.message
    assert "\n" not in violation.message


def test_a_v05_set_with_another_target_has_no_score(shared_dir):
    folder = shared_dir / "cases" / "judge" / "v05_target_lowered"
    assert check_paths([folder]).verdict == PASS  # level 1 does not check values
    score = score_folder(folder)
    assert score.result.seconds is None and "the rule requires 0.635" in score.result.reason


# -- benchmark, division and track apply to the whole log ------------------------


def moved_to_the_end(records, key):
    """Moves the record to the end, with the time of the last record."""
    record = records.pop(index_of(records, key))
    record["time_ms"] = records[-1]["time_ms"]
    return [*records, record]


def test_a_track_at_the_end_is_compared_all_the_same(tmp_path):
    records = good_log()
    records[index_of(records, "eval_top_k")]["value"] = 20
    result = check_file(write_log(tmp_path / "a.txt", moved_to_the_end(records, "track")))
    assert {"NCF-TOP-K", "NCF-TRACK-PLACE"} <= {v.rule for v in result.errors.list()}
    assert result.summary.track == "ml-100k"


def test_an_open_log_whose_division_stands_last_is_judged_by_the_open_rules(tmp_path):
    records = moved_to_the_end(good_log(division="open"), "submission_division")
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert (result.ruleset, result.verdict) == ("ncf-open", PASS)


def test_another_benchmark_is_named_wherever_its_record_stands(tmp_path):
    records = good_log()
    records[index_of(records, "submission_benchmark")]["value"] = "resnet"
    records = moved_to_the_end(records, "submission_benchmark")
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert result.ruleset is None and result.verdict == FAIL
    assert result.summary.num_accuracies == 3
    (violation,) = result.errors.list()
    assert (violation.rule, violation.line) == ("NCF-BENCHMARK", len(records))


@pytest.mark.parametrize("spaces", [0, 2000])
def test_the_track_may_stand_behind_any_amount_of_other_records(tmp_path, spaces):
    """Even after more records than the first scan reads."""
    records = good_log()
    records[index_of(records, "eval_top_k")]["value"] = 20
    track = records.pop(index_of(records, "track"))
    other = {**track, "key": "something_else", "value": 1}
    records[5:5] = [other] * spaces + [track]
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert "NCF-TOP-K" in {v.rule for v in result.errors.list()}


# -- contradictions ------------------------------------------------------------------


def rules_of(tmp_path, records) -> set[str]:
    result = check_file(write_log(tmp_path / "a.txt", records))
    return {v.rule for v in result.errors.list()}


@pytest.mark.parametrize("division, minutes, passes", [
    ("closed", 29, True), ("closed", 31, False), ("open", 239, True), ("open", 241, False)])
@pytest.mark.parametrize("key", ["init_stop", "run_start"])
def test_initialization_takes_at_most_its_time(tmp_path, division, minutes, passes, key):
    records = good_log(division=division)
    first = index_of(records, key)
    for record in records[first:]:
        record["time_ms"] += minutes * 60_000
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] += minutes * 60_000
    assert ("NCF-INIT-TIME" in rules_of(tmp_path, records)) is not passes


def test_a_run_lasts_as_long_as_its_epochs(tmp_path):
    records = good_log()
    start = records[index_of(records, "run_start")]
    stop = records[index_of(records, "run_stop")]
    late = stop["time_ms"] - 100
    for record in records[: index_of(records, "run_stop")]:
        if record["time_ms"] >= start["time_ms"]:
            record["time_ms"] = late
    start["metadata"]["wall_time_ms"] = late
    assert "NCF-RUN-SECONDS" in rules_of(tmp_path, records)


def test_two_runs_with_one_curve_are_one_run(tmp_path):
    write_set(tmp_path / "s", [7, 8, 9, 7, 8])
    assert check_paths([tmp_path / "s"]).verdict == PASS
    copy = (tmp_path / "s" / "result_0.txt").read_text().replace('"value": 1,', '"value": 99,', 1)
    (tmp_path / "s" / "result_3.txt").write_text(copy)
    result = check_paths([tmp_path / "s"])
    assert "NCF-SET-CURVES" in broken_rules(result)


@pytest.mark.parametrize("epochs, is_comparable", [(2, False), (3, True)])
def test_few_hit_rates_without_losses_may_be_equal_by_chance(tmp_path, epochs, is_comparable):
    records = good_log(epochs=epochs)
    for record in records:
        if record["key"] == "tracked_stats":
            del record["value"]["loss"]
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert (result.summary.curve is not None) is is_comparable


@pytest.mark.parametrize("field, value, passes", [
    ("batch_size", 1, False), ("target", 0.1, False), ("division", "open", False),
    ("target", None, False), ("base_seed", None, True),
    # A run evaluates at most all users at a time, even with a larger batch size.
    ("eval_batch_size", 10**9, True)])
def test_a_configuration_agrees_with_the_records(tmp_path, field, value, passes):
    records = good_log()
    records[index_of(records, "configuration")]["value"][field] = value
    assert ("NCF-CONFIGURATION-AGREES" in rules_of(tmp_path, records)) is not passes
