"""Scores, compared with values computed by hand."""

from __future__ import annotations

import json

import pytest

from compliance.base.errors import UsageError
from compliance.report import tables
from compliance.results.scoring import (
    OLYMPIC_MEAN,
    RULE_FUNCTIONS,
    SOURCES,
    V05_FIRST_50,
    TimedRun,
    confidence_interval,
    olympic_mean,
    score_folder,
    v05_first_50_of_100,
)
from tests.support.logs.log_builder import bad_log, good_log, index_of, write_log


def runs(*seconds, failed=(), start=0):
    return [TimedRun(f"r{i}", s, i not in failed, start + i) for i, s in enumerate(seconds)]


def test_olympic_mean_drops_the_fastest_and_the_slowest():
    result = olympic_mean(runs(5, 1, 3, 2, 10), 5)
    assert result.seconds == (5 + 3 + 2) / 3
    assert (result.fastest_s, result.slowest_s, result.median_s) == (1, 10, 3)
    assert set(result.counted_indices) == {0, 2, 3}


def test_one_run_that_did_not_converge_counts_as_the_slowest():
    result = olympic_mean(runs(5, 1, 3, 2, 10, failed={1}), 5)
    assert result.seconds == (5 + 3 + 10) / 3
    assert (result.fastest_s, result.slowest_s) == (2, 1)


@pytest.mark.parametrize("count, failed, words", [
    (4, (), "4 of 5 runs"), (6, (), "6 runs, but the rule requires 5"),
    (5, (0, 1), "2 of 5 runs did not converge")])
def test_olympic_mean_refuses_and_says_why(count, failed, words):
    result = olympic_mean(runs(*range(1, count + 1), failed=failed), 5)
    assert result.seconds is None and words in result.reason


def test_v05_takes_the_first_50_that_converged_by_start_time():
    times = [100.0 + i for i in range(100)]
    in_reverse = list(reversed(runs(*times, failed=set(range(0, 100, 4)))))
    result = v05_first_50_of_100(in_reverse)
    taken = [t for i, t in enumerate(times) if i % 4][:50]
    assert result.seconds == sum(taken[1:-1]) / 48
    assert (result.fastest_s, result.slowest_s) == (taken[0], taken[-1])
    assert len(result.counted_indices) == 48


def test_v05_refuses_too_few_converged_runs():
    assert "only 49 of 100" in v05_first_50_of_100(runs(*range(100), failed=set(range(51)))).reason
    assert v05_first_50_of_100(runs(*range(99))).reason == "99 of 100 runs"
    assert "requires 100" in v05_first_50_of_100(runs(*range(101))).reason


def test_the_interval_is_there_from_ten_runs_and_always_the_same():
    few, many = runs(*range(1, 10)), runs(*range(1, 11))
    assert confidence_interval(few, OLYMPIC_MEAN, 9) is None
    low, high = confidence_interval(many, OLYMPIC_MEAN, 10)
    assert low < olympic_mean(many, 10).seconds < high
    assert [low, high] == confidence_interval(many, OLYMPIC_MEAN, 10)
    assert confidence_interval(runs(*[7.0] * 10), OLYMPIC_MEAN, 10) == [7.0, 7.0]


def test_each_rule_cites_its_source():
    assert set(SOURCES) == set(RULE_FUNCTIONS) and all("MLPerf" in text for text in SOURCES.values())


def test_the_interval_resamples_whole_sets():
    """With two kinds of runs, the mean of every resampled set is between their times.

    The interval of 100 runs under the v0.5 rule uses that rule, not a plain mean.
    """
    mixed = runs(*[10.0, 20.0] * 6)
    low, high = confidence_interval(mixed, OLYMPIC_MEAN, 12)
    assert 10 <= low < 15 < high <= 20
    first = runs(*[1.0] * 60, *[100.0] * 40)
    assert confidence_interval(first, V05_FIRST_50, 100)[1] <= 100


def test_a_set_whose_resamples_rarely_have_a_score_gets_no_interval():
    barely = runs(*range(1, 101), failed=set(range(50, 100)))
    assert v05_first_50_of_100(barely).seconds is not None
    worse = runs(*range(1, 101), failed=set(range(45, 100)))
    assert confidence_interval(worse, V05_FIRST_50, 100) is None


def write_scored_set(folder, count=5, **changes):
    # A run that does not converge has used all three epochs up to its cap.
    cap = 3 if any(not c.get("converged", True) and "reason" not in c
                   for c in changes.values()) else None
    for i in range(count):
        write_log(folder / f"result_{i}.txt", good_log(
            seed=i + 1, start_ms=10**12 + i * 10**6, epoch_ms=1000 * (i + 1),
            max_epochs=cap, **changes.get(str(i), {})))
    return folder


def test_a_folder_is_scored_by_its_tracks_rule(tmp_path):
    score = score_folder(write_scored_set(tmp_path)).as_json()
    seconds = [r["seconds"] for r in score["per_run"]]
    assert score["seconds"] == sum(seconds[1:4]) / 3 and score["reason"] is None
    assert (score["rule"], score["runs"], score["converged"], score["counted"]) == (OLYMPIC_MEAN, 5, 5, 3)
    assert [r["counted"] for r in score["per_run"]] == [False, True, True, True, False]
    assert (score["dropped_fastest_s"], score["median_s"], score["dropped_slowest_s"]) == (
        seconds[0], seconds[2], seconds[4])
    assert score["ci95_s"] is None and score["schema_version"] == 1
    assert score == score_folder(tmp_path).as_json()
    texts = [tables.to_json(score_folder(tmp_path).as_json()) for _ in range(2)]
    assert texts[0] == texts[1]


def write_set_begun_with(folder, number, count, old=()):
    """Writes logs that record the number of runs; those in `old` record the track's."""
    for i in range(count):
        records = good_log(epochs=2 + i % 3, seed=i + 1, start_ms=10**12 + i * 10**7)
        settings = records[index_of(records, "configuration")]["value"]
        settings["required_runs"] = 5 if i in old else number
        write_log(folder / f"result_{i}.txt", records)


@pytest.mark.parametrize("number, count, old, words", [
    (12, 12, (), None), (30, 12, (), "12 of 30 runs"), (12, 5, (), "5 of 12 runs"),
    (5, 12, (), "12 runs, but the rule requires 5; runs may not be selected"),
    (31, 31, (), "begun with 31 runs, but the rule takes 5 to 30"),
    (31, 5, (), "begun with 31 runs, but the rule takes 5 to 30")])
def test_more_runs_than_the_track_requires_if_every_log_records_their_number(
        tmp_path, number, count, old, words):
    write_set_begun_with(tmp_path, number, count, old)
    score = score_folder(tmp_path)
    assert score.verdict == "pass"
    if words is None:
        assert len(score.counted) == number - 2 and score.required == number
        assert score.ci95 is not None
    else:
        assert score.result.seconds is None and words in score.result.reason


@pytest.mark.parametrize("number", [0, -1, 3, "5", True, 5.5, [5], {}])
def test_a_number_of_runs_that_no_set_can_have_gives_no_score(tmp_path, number):
    write_set_begun_with(tmp_path, number, 5)
    score = score_folder(tmp_path)
    assert score.result.seconds is None and "required_runs of configuration is" in score.result.reason


@pytest.mark.parametrize("old", [{0}, {11}, set(range(11))])
def test_the_number_of_runs_cannot_be_chosen_after_the_times_are_known(tmp_path, old):
    write_set_begun_with(tmp_path, 12, 12, old)
    score = score_folder(tmp_path)
    assert score.result.seconds is None and score.verdict == "fail"
    assert {v.rule for file in score.files for v in file.errors.list()} == {"NCF-SET-EQUAL"}


def test_an_unconverged_run_may_be_one(tmp_path):
    score = score_folder(write_scored_set(tmp_path, **{"0": {"converged": False}}))
    assert score.result.fastest_s < score.result.seconds
    assert tmp_path.name in score.files[0].path and score.files[0].path not in score.counted
    assert score_folder(write_scored_set(tmp_path, **{"0": {"converged": False}, "1": {"converged": False}})
                        ).result.seconds is None


def test_an_interrupted_attempt_is_no_run(tmp_path):
    write_scored_set(tmp_path, 6, **{"5": {"converged": False, "reason": "killed"}})
    score = score_folder(tmp_path)
    assert (len(score.runs), score.result.reason) == (5, None)


@pytest.mark.parametrize("spoil, words", [
    (lambda f: write_log(f / "result_0.txt", bad_log("top k")[0]), "NCF-TOP-K"),
    (lambda f: write_log(f / "result_1.txt", good_log(seed=1)), "NCF-SET-SEEDS"),
    (lambda f: (f / "result_4.txt").unlink(), "4 of 5 runs"),
    (lambda f: write_log(f / "result_5.txt", good_log(seed=77)), "6 runs"),
    (lambda f: write_log(f / "result_0.txt", bad_log("no run_stop")[0]), "NCF-RUN-STOP")])
def test_a_set_without_a_score_gets_the_reason(tmp_path, spoil, words):
    spoil(write_scored_set(tmp_path))
    score = score_folder(tmp_path).as_json()
    assert score["seconds"] is None and words in score["reason"] and score["counted"] == 0


def test_a_profiled_run_is_not_scored(tmp_path):
    write_scored_set(tmp_path)
    records = good_log(seed=99)
    records[index_of(records, "run_start")]["metadata"]["profiled"] = True
    write_log(tmp_path / "result_0.txt", records)
    assert "profiled" in score_folder(tmp_path).result.reason


def test_a_score_takes_one_set(tmp_path):
    write_scored_set(tmp_path / "a")
    write_scored_set(tmp_path / "b")
    with pytest.raises(UsageError, match="give one of them"):
        score_folder(tmp_path)


def test_the_real_submissions_get_their_scores_to_the_last_digit(shared_dir):
    gold_file = shared_dir / "logs_v05" / "gold.json"
    if not gold_file.exists():
        pytest.skip("the shared folder has no v0.5 logs")
    for name, gold in json.loads(gold_file.read_text())["submissions"].items():
        score = score_folder(gold_file.parent / name).as_json()
        assert (score["rule"], score["runs"], score["counted"]) == (V05_FIRST_50, 100, 48)
        assert score["seconds"] == gold["score_seconds"]
        assert score["converged"] == gold["converged"]
        assert score["dropped_fastest_s"] == gold["dropped_fastest_s"]
        assert score["dropped_slowest_s"] == gold["dropped_slowest_s"]
        assert score["ci95_s"][0] < score["seconds"] < score["ci95_s"][1]
    refused = score_folder(gold_file.parent / "nvidia_dgx1", "ncf-v0.5-l2").as_json()
    assert refused["seconds"] is None and "PREPROC-HP-MIN-RATINGS" in refused["reason"]
