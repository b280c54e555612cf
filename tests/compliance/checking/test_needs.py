"""A rule without the value that it compares with reports a violation."""

from __future__ import annotations

import copy

import pytest

from compliance.checking import checker
from compliance.checking.checker import check_file, check_paths
from compliance.checking.checks import CHECKS
from compliance.checking.checks.base import Need
from compliance.checking.results import FAIL
from compliance.checking.ruleset import Ruleset, load_ruleset
from tests.support.logs.log_builder import good_log, index_of, write_log
from tests.support.logs.run_sets import write_set

RULES = {(name, rule.id): rule for name in ("ncf-closed", "ncf-open")
         for rule in load_ruleset(name).rules if not rule.is_about_set}
NEEDS = [(name, rule_id, need) for (name, rule_id), rule in RULES.items()
         for need in CHECKS[rule.check].needs(rule.params)]
# Error rules whose missing value is only a warning, so that logs of other programs can pass.
ONLY_WARNED = {"NCF-CLOCK-START-JUMP", "NCF-CLOCK-STOP-JUMP"}


def log_without(need: Need, division: str) -> list[dict]:
    """Returns the records of a good log without the needed value."""
    records = good_log(division=division)
    if need.track_value is not None:
        records[index_of(records, "track")]["value"] = "a track of my own"
    elif need.field.startswith("metadata."):
        for record in records:
            if record["key"] == need.key:
                record["metadata"].pop(need.field.split(".")[1], None)
    elif need.type is not None:
        for record in records:
            if record["key"] == need.key:
                record["value"] = None
    else:
        records = [record for record in records if record["key"] != need.key]
    return records


def violations(result):
    return {v.rule: v for v in [*result.errors.list(), *result.warnings.list()]}


@pytest.mark.parametrize("ruleset, rule_id, need", NEEDS,
                         ids=[f"{name}-{rule}-{need.key}" for name, rule, need in NEEDS])
def test_a_log_without_it_fails(tmp_path, ruleset, rule_id, need):
    records = log_without(need, ruleset.removeprefix("ncf-"))
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert violations(result)
    if RULES[ruleset, rule_id].severity == "error" and rule_id not in ONLY_WARNED:
        assert result.errors and result.verdict != "pass"


@pytest.mark.parametrize("ruleset, rule_id, need", NEEDS,
                         ids=[f"{name}-{rule}-{need.key}" for name, rule, need in NEEDS])
def test_a_rule_alone_reports_it_by_itself(tmp_path, monkeypatch, ruleset, rule_id, need):
    """The ruleset contains no other rule that could report the record."""
    rule = RULES[ruleset, rule_id]
    monkeypatch.setattr(checker, "load_ruleset",
                        lambda name: Ruleset(name, "one rule", "mllog", (rule,)))
    good = check_file(write_log(tmp_path / "a.txt", good_log(division=ruleset[4:])))
    assert not good.has_violation_of(rule_id)
    if need.key == "run_stop" and need.type is None and need.field == "value":
        return  # a log without run_stop is unreadable
    result = check_file(write_log(tmp_path / "b.txt", log_without(need, ruleset[4:])))
    found = violations(result)[rule_id]
    assert "cannot be checked" in found.message


def test_where_another_rule_reports_the_record_the_report_is_not_repeated(tmp_path):
    records = good_log()
    del records[index_of(records, "train_samples")]
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert [v.rule for v in result.errors.list()] == ["NCF-TRAIN-SAMPLES"]


# -- values that checks need in single records ----------------------------------------------


def rules_of(tmp_path, records):
    return {v.rule for v in check_file(write_log(tmp_path / "a.txt", records)).errors.list()}


def test_a_success_needs_a_target(tmp_path):
    records = good_log(division="open")
    records[index_of(records, "eval_target")]["value"] = None
    records[index_of(records, "configuration")]["value"]["target"] = None
    assert rules_of(tmp_path, records) == {"NCF-SUCCESS"}


def test_a_rate_needs_the_interval_of_its_epoch(tmp_path):
    """For an aborted run, whose last epoch may lack records."""
    records = good_log(converged=False, reason="interrupted")
    where = index_of(records, "epoch_stop", -1)
    stats = records[index_of(records, "tracked_stats", -1)]
    stop = records[-1]
    cut = [*records[:where], {**stats, "time_ms": stop["time_ms"]}, stop]
    assert rules_of(tmp_path, cut) == {"NCF-THROUGHPUT-TIMES", "NCF-EVAL-THROUGHPUT-TIMES"}


@pytest.mark.parametrize("missing", [("train_seconds",), ("train_seconds", "eval_seconds")])
def test_a_run_without_logged_seconds_still_lasts_as_long_as_its_epochs(tmp_path, missing):
    """The seconds are computed from the rates."""
    records = good_log(epochs=5, epoch_ms=80)
    for record in records:
        for name in missing:
            if record["key"] == "tracked_stats":
                del record["value"][name]
    assert rules_of(tmp_path, records) == set()
    start = records[index_of(records, "run_start")]["time_ms"]
    for number, record in enumerate(records):
        if record["time_ms"] >= start:  # a run of 80 ms; each epoch is within 0.1 s of its rate
            record["time_ms"] = start + number
    records[index_of(records, "run_stop")]["metadata"]["wall_time_ms"] = records[-1]["time_ms"]
    assert rules_of(tmp_path, records) == {"NCF-RUN-SECONDS"}


@pytest.mark.parametrize("key", ["data_digests", "configuration"])
def test_a_key_that_some_logs_of_a_set_have_is_missed_in_the_others(tmp_path, key):
    """The set is open, because the closed division requires a configuration in each log."""
    write_set(tmp_path / "s", [3, 4, 5], division="open")
    for index in range(3):
        path = tmp_path / "s" / f"result_{index}.txt"
        lines = path.read_text().splitlines(keepends=True)
        if key == "configuration" and index == 1:
            lines = [line for line in lines if f'"{key}"' not in line]
        if key == "data_digests" and index != 1:
            record = lines[-1].replace('"run_stop"', '"data_digests"') \
                .replace("INTERVAL_END", "POINT_IN_TIME") \
                .replace('"value": null', f'"value": {{"first_batch": "{index:064x}"}}')
            lines.append(record)
        path.write_text("".join(lines))
    result = check_paths([tmp_path / "s"])
    found = [{v.rule for v in [*f.errors.list(), *f.warnings.list()]} for f in result.files]
    if key == "configuration":
        assert result.verdict == FAIL and found == [set(), {"NCF-SET-EQUAL"}, set()]
    else:
        assert found == [set(), {"NCF-SET-DIGESTS-GIVEN"}, set()]


def test_records_before_the_one_they_are_compared_with_are_compared_once_it_comes(tmp_path):
    records = good_log(epochs=2)
    record = records.pop(index_of(records, "eval_samples"))
    where = index_of(records, "run_stop")
    records.insert(where, {**copy.deepcopy(record), "value": 1,
                           "time_ms": records[where]["time_ms"]})
    assert "NCF-EVAL-COVERAGE" in rules_of(tmp_path, records)


# -- the masked share of candidates --------------------------------------------------


@pytest.mark.parametrize("masked, passes", [
    # 943 users x 999 draws of 1682 - 99057 / 943 = 1577 items: 26.0% are masked.
    (244_980, True), (245_438, True), (244_980 + 46_000, True), (244_980 - 46_000, True),
    (244_980 + 49_000, False), (17, False), (0, False), (-1, False), (1.5, False), ("x", False),
    (10**80, False)])
def test_as_many_candidates_are_masked_as_uniform_draws_repeat(tmp_path, masked, passes):
    records = good_log()
    records[index_of(records, "eval_neg_gen_stop")]["metadata"]["masked_duplicates"] = masked
    assert ("NCF-MASKED-SHARE" in rules_of(tmp_path, records)) is not passes
    # The open division only warns.
    records = good_log(division="open")
    records[index_of(records, "eval_neg_gen_stop")]["metadata"]["masked_duplicates"] = masked
    assert rules_of(tmp_path, records) == set()


def test_a_log_that_does_not_say_how_many_are_masked_passes(tmp_path):
    records = good_log()
    del records[index_of(records, "eval_neg_gen_stop")]["metadata"]["masked_duplicates"]
    assert rules_of(tmp_path, records) == set()


def test_the_mean_number_of_candidates_follows_from_the_masked_ones(tmp_path):
    """943 users, 999 negatives: 245,180 masked leave 1 + 999 - 260 = 740 per user."""
    records = good_log()
    metadata = records[index_of(records, "eval_neg_gen_stop")]["metadata"]
    metadata.update(masked_duplicates=245_180, mean_candidates=740.0)
    assert rules_of(tmp_path, records) == set()
    metadata["mean_candidates"] = 740.001
    assert rules_of(tmp_path, records) == {"NCF-MASKED-SHARE"}
    metadata["mean_candidates"] = "740"
    assert rules_of(tmp_path, records) == {"NCF-MASKED-SHARE"}


def test_given_lists_are_not_compared_with_draws(tmp_path):
    """The published lists of ml-1m-paper repeat no item except the held-out item."""
    records = good_log("ml-1m-paper")
    records[index_of(records, "eval_neg_gen_stop")]["metadata"]["masked_duplicates"] = 156
    assert rules_of(tmp_path, records) == set()
