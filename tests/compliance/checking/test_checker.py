"""`check`: good logs pass; each broken log fails by the expected rule, in the expected line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance.base.errors import UsageError
from compliance.checking.checker import check_file, check_paths
from compliance.checking.results import MAX_PER_RULE
from compliance.checking.ruleset import load_ruleset
from compliance.tracks import BUILTIN_TRACKS, load_track
from tests.support.logs.bad_logs import cases
from tests.support.logs.log_builder import (
    BAD_LOGS,
    bad_log,
    good_log,
    index_of,
    line_of,
    set_batch_size,
    set_setting,
    write_log,
)
from tests.support.paths import DATA

CLOSED = [t for t in BUILTIN_TRACKS if load_track(t).division_default == "closed"]


def found(result):
    return [(v.rule, v.line) for v in result.errors.list()]


@pytest.mark.parametrize("track", CLOSED)
@pytest.mark.parametrize("converged", [True, False])
def test_a_good_log_passes(tmp_path, track, converged):
    result = check_file(write_log(tmp_path / "a.txt", good_log(track, converged=converged)))
    warnings = [violation.rule for violation in result.warnings.list()]
    # The data of ml-20m has no pinned digest; a warning reports it.
    expected = ["NCF-DATASET-UNPINNED"] if track == "ml-20m" else []
    assert (result.verdict, found(result), warnings) == ("pass", [], expected)
    assert result.ruleset == "ncf-closed" and result.summary.converged is converged


def test_the_summary_of_the_run_is_reported(tmp_path):
    records = good_log(seed=7, epochs=4)
    path = write_log(tmp_path / "a.txt", records)
    run = check_file(path).as_json()["run"]
    start, stop = (records[index_of(records, k)]["time_ms"] for k in ("run_start", "run_stop"))
    last = records[index_of(records, "eval_accuracy", -1)]["value"]
    assert run == {"start_s": start / 1000, "stop_s": stop / 1000, "seconds": (stop - start) / 1000,
                   "status": "success", "epochs": 4, "final_accuracy": last, "best_accuracy": last,
                   "target": load_track("ml-100k").target, "converged": True, "seed": 7}


@pytest.mark.parametrize("path", sorted((DATA / "good").glob("*.txt")), ids=lambda p: p.stem)
def test_a_golden_good_log_passes(path):
    result = check_file(path)
    assert (result.verdict, found(result)) == ("pass", [])


EXPECTED = json.loads((DATA / "bad" / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_bad_log_breaks_the_expected_rule_in_the_expected_line(name):
    expected, path = EXPECTED[name], DATA / "bad" / name
    if path.parent.name == "bad":
        result = check_file(path)
    else:  # set rules apply only to folders
        result = next(f for f in check_paths([path.parent]).files if f.path == str(path))
    assert result.verdict == expected["verdict"]
    told = [(v.rule, v.line) for v in result.errors.list() + result.warnings.list()]
    assert (expected["rule"], expected["line"]) in told or not expected["rule"]


def test_the_golden_bad_logs_are_those_that_their_script_writes():
    made = cases()
    assert set(EXPECTED) == {f"{name}.txt" for name in made} and len(made) >= 60
    for name, case in made.items():
        assert (DATA / "bad" / f"{name}.txt").read_bytes() == case.data, name
        assert EXPECTED[f"{name}.txt"] == {"rule": case.rule, "line": case.line,
                                           "verdict": case.verdict}


@pytest.mark.parametrize("name", sorted(BAD_LOGS))
def test_a_broken_log_fails_by_its_rule_and_line(tmp_path, name):
    records, rule, line = bad_log(name)
    result = check_file(write_log(tmp_path / "b.txt", records))
    assert result.verdict == ("unreadable" if name == "no run_stop" else "fail")
    assert any(r == rule and line in (None, where) for r, where in found(result)), found(result)


def test_any_digit_of_the_last_accuracy_changed_by_hand_fails_and_names_its_line(tmp_path):
    records = good_log()
    index = index_of(records, "eval_accuracy", -1)
    text, value = line_of(records[index]), repr(records[index]["value"])
    lines = [line_of(r) for r in records]
    for position in range(2, len(value)):
        for digit in "0123456789":
            other = value[:position] + digit + value[position + 1:]
            if other == value:
                continue
            lines[index] = text.replace(value, other)
            path = tmp_path / "c.txt"
            path.write_text("\n".join(lines) + "\n")
            result = check_file(path)
            assert result.verdict == "fail"
            assert ("NCF-ACCURACY-HITS", index + 1) in found(result)


def test_a_hit_rate_in_full_double_precision_passes(tmp_path):
    records = good_log()
    users = records[index_of(records, "eval_num_users")]["value"]
    for index, record in enumerate(records):
        if record["key"] == "eval_stop":
            accuracy = next(r for r in reversed(records[:index]) if r["key"] == "eval_accuracy")
            accuracy["value"] = record["metadata"]["hits"] / users
    assert check_file(write_log(tmp_path / "a.txt", records)).verdict == "pass"


def test_without_logged_hits_the_accuracy_must_be_a_whole_count_over_users(tmp_path):
    records = good_log()
    for record in records:
        record["metadata"].pop("hits", None)
    assert check_file(write_log(tmp_path / "a.txt", records)).verdict == "pass"
    index = index_of(records, "eval_accuracy", -1)
    records[index]["value"] += 0.0001
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert ("NCF-ACCURACY-HITS", index + 1) in found(result)


def test_an_aborted_run_may_stop_in_the_middle(tmp_path):
    records = good_log(epochs=3, converged=False, reason="interrupted")
    stop = records[-1]
    for key in ("epoch_start", "epoch_stop", "eval_start", "eval_accuracy", "tracked_stats"):
        cut = records[:index_of(records, key, -1) + 1]
        result = check_file(write_log(tmp_path / "a.txt", [*cut, stop]))
        assert (result.verdict, found(result)) == ("pass", []), key
        assert result.summary.converged is False


def test_epochs_may_count_from_0(tmp_path):
    records = good_log()
    for record in records:
        if "epoch_num" in record["metadata"]:
            record["metadata"]["epoch_num"] -= 1
    assert check_file(write_log(tmp_path / "a.txt", records)).verdict == "pass"


def test_the_open_division_frees_what_the_closed_division_fixes(tmp_path):
    records = good_log(division="open")
    for key, value in (("eval_top_k", 20), ("model_mf_dim", 4), ("track", "mine")):
        set_setting(records, key, value)
    path = write_log(tmp_path / "a.txt", records)
    assert (check_file(path).ruleset, check_file(path).verdict) == ("ncf-open", "pass")
    assert check_file(path, "ncf-closed").verdict == "fail"


def test_the_free_settings_of_the_closed_division_may_be_changed(tmp_path):
    records = good_log()
    set_batch_size(records, 17)
    for key, value in (("opt_base_learning_rate", 0.5), ("precision", "bfloat16"),
                       ("opt_name", "lazy_adam"), ("opt_adam_beta_1", 0.1), ("engine", "mine:Own")):
        set_setting(records, key, value)
    assert check_file(write_log(tmp_path / "a.txt", records)).verdict == "pass"


def test_an_epoch_beyond_the_cap_is_reported(tmp_path):
    cap = load_track("ml-100k").max_epochs
    records = good_log(epochs=cap + 1, converged=False)
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert found(result) == [("NCF-EPOCH-CAP", index_of(records, "epoch_start", cap) + 1)]


def test_warnings_do_not_fail(tmp_path):
    records = good_log(epoch_ms=20_000)
    records[index_of(records, "cache_clear")]["value"] = False
    # More than 1 s, but less than a tenth of the run.
    records[index_of(records, "run_stop")]["metadata"]["wall_time_ms"] += 5000
    path = tmp_path / "a.txt"
    lines = [line_of(r) for r in records]
    path.write_text("\n".join([lines[0] + " " + lines[1], *lines[2:]]) + "\n")
    result = check_file(path)
    assert result.verdict == "pass"
    assert {v.rule for v in result.warnings.list()} == {
        "NCF-CACHE-CLEARED", "NCF-CLOCK-STOP", "NCF-LINE"}


def test_violations_are_capped_and_counted(tmp_path):
    records = good_log()
    index = index_of(records, "seed")
    records[index:index] = [dict(records[index]) for _ in range(150)]
    shown = [v for v in check_file(write_log(tmp_path / "a.txt", records)).errors.list()
             if v.rule == "NCF-SEED"]
    assert len(shown) == MAX_PER_RULE + 1
    assert shown[-1].count == 50 and all(v.count is None for v in shown[:-1])


def test_rules_about_a_set_hold_for_folders_only(tmp_path):
    paths = [write_log(tmp_path / "s" / f"result_{i}.txt", good_log(
        seed=1, start_ms=10**12 + i, epochs=3 + i)) for i in range(3)]
    records = good_log(seed=9)
    set_batch_size(records, 5)
    write_log(tmp_path / "s" / "result_10.txt", records)
    assert check_paths(paths).verdict == "pass"
    result = check_paths([tmp_path / "s"])
    assert [Path(f.path).name for f in result.files] == [f"result_{i}.txt" for i in (0, 1, 2, 10)]
    assert [{r for r, _ in found(f)} for f in result.files] == [
        set(), {"NCF-SET-SEEDS", "NCF-SET-CURVES"}, {"NCF-SET-SEEDS", "NCF-SET-CURVES"},
        {"NCF-SET-EQUAL"}]
    assert ("NCF-SET-SEEDS", index_of(records, "seed") + 1) in found(result.files[1])


def test_two_sets_under_one_folder_are_judged_apart(tmp_path):
    for name in ("a", "b"):
        write_log(tmp_path / name / "result_0.txt", good_log(seed=1))
    assert check_paths([tmp_path]).verdict == "pass"


def test_a_log_of_another_benchmark_fails_with_its_summary_filled(tmp_path):
    records = good_log()
    records[0]["value"] = "dlrm/../../etc"
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert (result.ruleset, result.verdict, found(result)) == (None, "fail", [("NCF-BENCHMARK", 1)])
    assert result.summary.as_json()["epochs"] == 3


def test_the_verdict_over_several_files_is_the_worst_one(tmp_path):
    good = write_log(tmp_path / "g.txt", good_log())
    bad = write_log(tmp_path / "b.txt", bad_log("top k")[0])
    cut = write_log(tmp_path / "c.txt", bad_log("no run_stop")[0])
    assert check_paths([good, cut]).verdict == "unreadable"
    assert check_paths([good, cut, bad]).verdict == "fail"


def test_a_path_without_logs_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        check_paths([tmp_path / "none.txt"])
    with pytest.raises(UsageError, match="no result_"):
        check_paths([tmp_path])


def test_an_entry_json_of_the_closed_division_selects_level_2(tmp_path):
    log = tmp_path / "ncf" / "result_0.txt"
    log.parent.mkdir()
    log.write_bytes((DATA / "good" / "v05_level2.txt").read_bytes())
    assert check_file(log).ruleset == "ncf-v0.5-l1"
    (tmp_path / "entry.json").write_text('{"division": "closed"}')
    assert check_file(log).ruleset == "ncf-v0.5-l2"
    (log.parent / "entry.json").write_text('{"division": "open"}')
    assert check_file(log).ruleset == "ncf-v0.5-l1"


def test_real_v05_logs_get_the_verdicts_of_the_original_checker(shared_dir):
    gold_file = shared_dir / "logs_v05" / "gold.json"
    if not gold_file.exists():
        pytest.skip("the shared folder has no v0.5 logs")
    gold = json.loads(gold_file.read_text())
    logs = {gold_file.parent / s / n: e for s, v in gold["submissions"].items()
            for n, e in v["files"].items()}
    logs[gold_file.parent / "reference_example.log"] = gold["reference_example.log"]
    source = {r.id: r.source for r in load_ruleset("ncf-v0.5-l2").rules}
    for path, expected in logs.items():
        one, two = check_file(path, "ncf-v0.5-l1"), check_file(path, "ncf-v0.5-l2")
        assert (one.verdict == "pass") is expected["level1"]
        assert (two.verdict == "pass") is expected["level2"]
        assert sorted(source[r] for r, _ in found(two)) == sorted(expected["failed_rules"])
        run = one.as_json()["run"]
        assert all(run[k] == expected[k] for k in run if k in expected)


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=6)), min_size=1,
                max_size=8))
def test_a_damaged_log_gets_a_verdict(tmp_path, edits):
    data = bytearray("".join(line_of(r) + "\n" for r in good_log()).encode())
    for position, what in edits:
        data[position:position + len(what)] = what
    path = tmp_path / "d.txt"
    path.write_bytes(data)
    result = check_file(path)
    assert result.verdict in ("pass", "fail", "unreadable")
    json.dumps(result.as_json()["violations"], allow_nan=False)
