"""Any change of a checked value in a good log changes the result; any bytes get a verdict."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance.checking.checker import check_file, check_paths
from compliance.logs.keys import LOG_KEYS
from compliance.results.scoring import score_folder
from tests.support.logs.log_builder import (
    good_log,
    index_of,
    set_batch_size,
    set_setting,
    write_log,
)

FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
# Keys whose values no rule of the closed division checks: free settings and descriptions.
# All runs of a set must have the same values (NCF-SET-EQUAL).
FREE = {"submission_org", "submission_status", "submission_platform", "seed", "engine", "precision",
        "device", "global_batch_size", "eval_batch_size", "opt_name", "opt_base_learning_rate",
        "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon", "train_sampler"}
# Descriptions that only warnings, or no rules at all, require.
DESCRIPTIONS = {"source", "versions", "clock_source"}
VALUES = [None, True, False, 0, 1, -1, 3, 0.5, 1.5, 1e300, "", "x", "1", [], [1], [64, 32], {},
          {"a": 1}, "ncf", "closed", "open", "ml-1m", 0.2, 943, 999, 10]
META = {"epoch_num": ("epoch_start", "epoch_stop", "eval_start", "eval_stop", "eval_accuracy",
                      "eval_ndcg", "tracked_stats", "train_neg_gen_start", "train_neg_gen_stop",
                      "run_stop"),
        "status": ("run_stop",), "samples_count": ("eval_accuracy",), "hits": ("eval_stop",)}


def judged(path):
    """Returns the result for a log: verdict, ruleset, and the values that affect the score."""
    result = check_file(path)
    run = result.as_json()["run"]
    return result.verdict, result.ruleset, run["seconds"], run["converged"]


def other_than(value, new):
    return json.dumps(new) != json.dumps(value) and not (
        type(value) in (int, float) and type(new) in (int, float) and new == value)


@pytest.fixture(scope="module")
def good():
    return good_log(epochs=2)


@settings(max_examples=150, deadline=None, suppress_health_check=FIXTURE)
@given(data=st.data())
def test_a_changed_value_changes_the_result(tmp_path, good, data):
    records = copy.deepcopy(good)
    before = judged(write_log(tmp_path / "a.txt", records))
    carrying = [i for i, r in enumerate(records) if LOG_KEYS[r["key"]].value != "none"
                and r["key"] not in FREE | DESCRIPTIONS | {"cache_clear"}]
    index = data.draw(st.sampled_from(carrying))
    record = records[index]
    new = data.draw(st.one_of(st.sampled_from(VALUES), st.integers(-5, 10 ** 7), st.floats(
        allow_nan=False, allow_infinity=False), st.text(max_size=5)))
    if record["key"] == "tracked_stats":
        name = data.draw(st.sampled_from(["throughput", "eval_throughput"]))
        old, record["value"][name] = record["value"][name], new
        if type(new) in (int, float) and abs(new / old - 1) < 0.01:
            return
    elif record["key"] == "eval_ndcg" and type(new) in (int, float) and 0.05 < new < 0.3:
        return  # a ranking with the same hits may have this NDCG
    elif not other_than(record["value"], new):
        return
    else:
        record["value"] = new
    assert judged(write_log(tmp_path / "b.txt", records)) != before, (record["key"], new)


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURE)
@given(data=st.data())
def test_a_changed_epoch_status_or_count_changes_the_result(tmp_path, good, data):
    records = copy.deepcopy(good)
    before = judged(write_log(tmp_path / "a.txt", records))
    name = data.draw(st.sampled_from(sorted(META)))
    index = data.draw(st.sampled_from([i for i, r in enumerate(records) if r["key"] in META[name]
                                       and r["metadata"].get("status") != "cancelled"
                                       and r["metadata"].get("epoch_num") != 3]))
    new = data.draw(st.one_of(st.sampled_from(VALUES), st.integers(0, 2000)))
    if other_than(records[index]["metadata"][name], new):
        records[index]["metadata"][name] = new
        assert judged(write_log(tmp_path / "b.txt", records)) != before, (index, name, new)


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURE)
@given(data=st.data())
def test_a_record_that_is_dropped_doubled_or_moved_changes_the_result(tmp_path, good, data):
    records = copy.deepcopy(good)
    before = judged(write_log(tmp_path / "a.txt", records))
    index = data.draw(st.sampled_from([i for i, r in enumerate(records)
                                       if r["metadata"].get("epoch_num") != 3
                                       and r["key"] not in DESCRIPTIONS]))
    what = data.draw(st.sampled_from(["drop", "double", "time"]))
    if what == "drop":
        del records[index]
    elif what == "double":
        records.insert(index, copy.deepcopy(records[index]))
    else:  # past its neighbors, so the times are out of order
        away = data.draw(st.sampled_from([-10 ** 6, -10 ** 4, 10 ** 4, 10 ** 6]))
        if index == len(records) - 1 and away > 0:
            return  # a longer run: test_a_changed_time_changes_the_score
        if index == 0 and away < 0:
            return  # no record precedes it
        records[index]["time_ms"] += away
    assert judged(write_log(tmp_path / "b.txt", records)) != before, (what, index)


@pytest.mark.parametrize("key, by", [("run_stop", 5), ("run_start", 3)])
def test_a_changed_time_changes_the_score(tmp_path, key, by):
    for i in range(5):
        records = good_log(seed=i, start_ms=10 ** 12 + i * 10 ** 6)
        write_log(tmp_path / "s" / f"result_{i}.txt", records)
    before = score_folder(tmp_path / "s").result.seconds
    for i in range(5):
        records = good_log(seed=i, start_ms=10 ** 12 + i * 10 ** 6)
        records[index_of(records, key)]["time_ms"] += by
        write_log(tmp_path / "s" / f"result_{i}.txt", records)
    assert score_folder(tmp_path / "s").result.seconds == pytest.approx(
        before + (by if key == "run_stop" else -by) / 1000, abs=1e-9)


@pytest.mark.parametrize("key", sorted(FREE - {"seed"}))
def test_a_free_setting_must_be_equal_within_a_set(tmp_path, key):
    for i in range(2):
        records = good_log(seed=i)
        value = records[index_of(records, key)]["value"]
        if i:
            value = {"submission_status": "cloud", "device": "gpu", "opt_name": "lazy_adam",
                     "precision": "bfloat16"}.get(
                key, value / 2 if type(value) is float else value * 2)
        set_setting(records, key, value)
        if key == "global_batch_size":
            set_batch_size(records, value)
        write_log(tmp_path / "s" / f"result_{i}.txt", records)
    result = check_paths([tmp_path / "s"])
    assert {v.rule for f in result.files for v in f.errors.list()} == {"NCF-SET-EQUAL"}


@settings(max_examples=200, deadline=None, suppress_health_check=FIXTURE)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(
    [b":::MLLOG ", b":::MLPv0.5.0 ncf 1 (a:1) ", b":::MLL 1.5 run_stop: ", b"{", b"}", b'"key": ',
     b'"run_start"', b"\n", b"\r\n", b"\x00", b"[", b'{"value": null, "metadata": {}}',
     b"\xef\xbb\xbf",
     b'{"namespace": "", "time_ms": 5, "event_type": "POINT_IN_TIME", "key": "seed", "value": 1, '
     b'"metadata": {}}'])), max_size=20))
def test_any_bytes_get_a_verdict(tmp_path, parts):
    path = tmp_path / "x.txt"
    path.write_bytes(b"".join(parts))
    result = check_file(path)
    assert result.verdict in ("fail", "unreadable")
    json.dumps(result.as_json()["violations"], allow_nan=False)
