"""`compare`: verdicts, error rates, and stages that add up to the total."""

from __future__ import annotations

import json

import pytest

from compliance.__main__ import main
from compliance.base.errors import UsageError
from compliance.results.comparison import (
    FASTER,
    INCONCLUSIVE,
    NO_DIFFERENCE,
    SLOWER,
    TOO_FEW_RUNS,
    compare_run_sets,
)
from compliance.report.comparison import verdict_sentence
from compliance.results.run_set import read_single_set
from tests.support.logs.log_builder import bad_log, write_log
from tests.support.logs.run_sets import write_set


def compare_folders(first, second):
    return compare_run_sets(read_single_set(first), read_single_set(second))


@pytest.fixture
def compare_written(tmp_path):
    """Writes two sets and compares them."""
    def compare(first, second, **both):
        write_set(tmp_path / "a", **{**both, **first})
        write_set(tmp_path / "b", **{**both, **second})
        return compare_folders(tmp_path / "a", tmp_path / "b")
    return compare


def test_fewer_epochs_make_it_faster(compare_written):
    comparison = compare_written({"epochs": [10, 11, 12, 13, 14]}, {"epochs": [4, 5, 6, 7, 8]})
    assert comparison.verdict == FASTER and comparison.p_value == pytest.approx(2 / 252)
    assert comparison.epochs.value == pytest.approx(0.5) and comparison.epoch_time.value == pytest.approx(1, abs=0.02)
    assert comparison.time.low < comparison.time.value < comparison.time.high < 1


def test_slower_epochs_make_it_slower(compare_written):
    comparison = compare_written({"epochs": [8, 9, 10, 11]}, {"epochs": [8, 9, 10, 11], "epoch_ms": 2000})
    assert comparison.verdict == SLOWER and comparison.epochs.value == 1
    assert comparison.epoch_time.value == pytest.approx(2, abs=0.02)
    stages = {s["stage"]: s for s in comparison.stages}
    assert stages["training"]["difference_s"] == pytest.approx(9.5, abs=0.01)
    assert abs(stages["evaluation"]["difference_s"]) < 0.01


def test_like_against_like_shows_no_difference(compare_written):
    comparison = compare_written({"epochs": [8, 9, 10, 11]}, {"epochs": [9, 8, 10, 12]})
    assert comparison.verdict == NO_DIFFERENCE and comparison.p_value > 0.05


@pytest.mark.parametrize("first, second", [
    ({"epochs": [20, 21, 22]}, {"epochs": [2, 3, 4, 5]}),
    ({"epochs": [20, 21, 22, 23]}, {"epochs": [2, 3, 4]}),
    ({"epochs": [20, 21, 22, 23], "missed": {0}}, {"epochs": [2, 3, 4, 5]}),
    ({"epochs": [20] * 4, "missed": {0, 1, 2, 3}}, {"epochs": [2, 3, 4, 5]})])
def test_fewer_than_four_runs_in_a_set_are_too_few(compare_written, first, second):
    comparison = compare_written(first, second)
    assert comparison.verdict == TOO_FEW_RUNS and comparison.p_value is None
    assert comparison.time is None or comparison.time.low is None


def test_unconverged_runs_are_the_slowest(compare_written):
    """B's converged runs are fast, but most runs of B do not converge: not "faster"."""
    comparison = compare_written({"epochs": [10, 11, 12, 13, 14, 15]},
                                 {"epochs": [4, 5, 6, 7, 20, 20, 20, 20, 20], "missed": {4, 5, 6, 7, 8}})
    assert comparison.time.high < 1 and comparison.verdict == INCONCLUSIVE
    assert any("5 of 9 runs did not converge" in note for note in comparison.notes)


def test_ratios_multiply_and_stages_add_up(compare_written):
    comparison = compare_written({"epochs": [8, 9, 10, 11]}, {"epochs": [5, 6, 7, 8], "epoch_ms": 1300})
    assert comparison.time.value == pytest.approx(comparison.epochs.value * comparison.epoch_time.value)
    a, b = comparison.a.as_json(), comparison.b.as_json()
    assert sum(s["a_s"] for s in comparison.stages) == pytest.approx(a["mean_s"])
    assert sum(s["difference_s"] for s in comparison.stages) == pytest.approx(b["mean_s"] - a["mean_s"])


def test_the_notes_name_the_settings_that_differ(compare_written):
    comparison = compare_written({"epochs": [8, 9, 10, 11]},
                                 {"epochs": [8, 9, 10, 11], "values": {"precision": "bfloat16"}})
    assert comparison.notes == ["the sets differ in precision: A float32, B bfloat16"]


@pytest.mark.parametrize("second, words", [
    ({"track_name": "ml-1m"}, "ml-1m"), ({"values": {"eval_target": 0.1}}, "0.1"),
    ({"track_name": "ml-20m-synthetic", "division": "open"}, "do not have one common target")])
def test_other_tasks_are_not_compared(compare_written, second, words):
    with pytest.raises(UsageError, match=words):
        compare_written({"epochs": [3, 3]}, {"epochs": [3, 3], **second})


def test_exit_codes_and_formats(compare_written, tmp_path, capsys):
    compare_written({"epochs": [10, 11, 12, 13]}, {"epochs": [4, 5, 6, 7]})
    args = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("faster: B takes 0.4") and "training" in out
    assert main([*args, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == FASTER and data["time"]["ci95"][1] < 1 and data["a"]["runs"] == 4
    for output_format in ("csv", "markdown"):
        assert main([*args, "--format", output_format]) == 0
        assert "faster" in capsys.readouterr().out
    assert main([*args, "--fail_if_slower"]) == 0
    assert main(["compare", "--fail_if_slower", args[2], args[1]]) == 2
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path)]) == 1
    assert "contains 2 sets" in capsys.readouterr().err
    write_log(tmp_path / "b" / "result_9.txt", bad_log("no run_stop")[0])
    assert main(args) == 3


def test_several_sets_are_each_compared_with_the_first(compare_written, tmp_path, capsys):
    compare_written({"epochs": [10, 11, 12, 13]}, {"epochs": [4, 5, 6, 7]})
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["compare", b, b, a, "--fail_if_slower", "--format", "json"]) == 2
    both = json.loads(capsys.readouterr().out)["comparisons"]
    assert [c["verdict"] for c in both] == [NO_DIFFERENCE, SLOWER]
    assert main(["compare", a, b, a]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("The false-alarm rate of each of these 2 comparisons")
    assert main(["compare", a, b, a, "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 * 2
    assert main(["compare", a, b, a, "--html", str(tmp_path / "x.html")]) == 1
    assert "give two folders" in capsys.readouterr().err


def test_test_and_interval_that_disagree_are_inconclusive(compare_written):
    """At these sizes one tie makes the rank test insignificant, but not the interval."""
    comparison = compare_written({"epochs": [18, 18, 18, 20, 22]}, {"epochs": [16, 16, 16, 18]})
    assert comparison.p_value > 0.05 and comparison.time.high < 1
    assert comparison.verdict == INCONCLUSIVE
    assert "the interval excludes 1, the rank test shows no difference" in \
        verdict_sentence(comparison)


def test_the_answer_says_what_it_could_have_seen(compare_written, tmp_path, capsys):
    compare_written({"epochs": [8, 9, 10, 11, 12]}, {"epochs": [8, 9, 10, 11, 12]})
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    out = " ".join(capsys.readouterr().out.split())
    assert "5 against 5 runs with this spread find a difference of" in out
    assert "20 against 20 runs would find the latter in" in out


def test_the_same_folders_give_the_same_bytes(compare_written, tmp_path, capsys):
    compare_written({"epochs": [10, 11, 12, 13]}, {"epochs": [4, 5, 6, 7]})
    answers = []
    for _ in range(2):
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--format", "json"])
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_the_real_submissions(shared_dir):
    logs = shared_dir / "logs_v05"
    if not logs.is_dir():
        pytest.skip("the shared folder has no v0.5 logs")
    comparison = compare_folders(logs / "nvidia_dgx1", logs / "intel_skx8180")
    assert comparison.verdict == SLOWER and len(comparison.a.converged) == 86
    assert comparison.time.value == pytest.approx(comparison.epochs.value * comparison.epoch_time.value)
    assert comparison.epochs.high < 1 < comparison.epoch_time.low
