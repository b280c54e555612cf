"""`compare`: what it says, how often it is wrong, and that its parts make up the whole."""

from __future__ import annotations

import json
import random

import pytest

from compliance.__main__ import main
from compliance.base.errors import UsageError
from compliance.results.comparison import (
    FASTER,
    NO_DIFFERENCE,
    SLOWER,
    TOO_FEW,
    compare_folders,
    compare_sets,
)
from compliance.results.run_set import read_one_set
from tests.support.logs.log_builder import bad_log, write_log
from tests.support.logs.run_sets import write_set


@pytest.fixture
def sides(tmp_path):
    """Makes two sets and compares them."""
    def compare(first, second, **both):
        write_set(tmp_path / "a", **{**both, **first})
        write_set(tmp_path / "b", **{**both, **second})
        return compare_folders(tmp_path / "a", tmp_path / "b")
    return compare


def test_fewer_epochs_make_it_faster(sides):
    found = sides({"epochs": [10, 11, 12, 13, 14]}, {"epochs": [4, 5, 6, 7, 8]})
    assert found.verdict == FASTER and found.p == pytest.approx(2 / 252)
    assert found.epochs.value == pytest.approx(0.5) and found.per_epoch.value == pytest.approx(1, abs=0.02)
    assert found.time.low < found.time.value < found.time.high < 1


def test_slower_epochs_make_it_slower(sides):
    found = sides({"epochs": [8, 9, 10, 11]}, {"epochs": [8, 9, 10, 11], "epoch_ms": 2000})
    assert found.verdict == SLOWER and found.epochs.value == 1
    assert found.per_epoch.value == pytest.approx(2, abs=0.02)
    stages = {s["stage"]: s for s in found.stages}
    assert stages["training"]["difference_s"] == pytest.approx(9.5, abs=0.01)
    assert abs(stages["evaluation"]["difference_s"]) < 0.01


def test_like_against_like_shows_no_difference(sides):
    found = sides({"epochs": [8, 9, 10, 11]}, {"epochs": [9, 8, 10, 12]})
    assert found.verdict == NO_DIFFERENCE and found.p > 0.05


@pytest.mark.parametrize("first, second", [
    ({"epochs": [20, 21, 22]}, {"epochs": [2, 3, 4, 5]}),
    ({"epochs": [20, 21, 22, 23]}, {"epochs": [2, 3, 4]}),
    ({"epochs": [20, 21, 22, 23], "missed": {0}}, {"epochs": [2, 3, 4, 5]}),
    ({"epochs": [20] * 4, "missed": {0, 1, 2, 3}}, {"epochs": [2, 3, 4, 5]})])
def test_below_four_runs_a_side_it_says_too_few(sides, first, second):
    found = sides(first, second)
    assert found.verdict == TOO_FEW and found.p is None
    assert found.time is None or found.time.low is None


def test_unconverged_runs_are_the_slowest(sides):
    """B's converged runs are fast, but most of B never gets there: not "faster"."""
    found = sides({"epochs": [10, 11, 12, 13, 14, 15]},
                  {"epochs": [4, 5, 6, 7, 20, 20, 20, 20, 20], "missed": {4, 5, 6, 7, 8}})
    assert found.time.high < 1 and found.verdict == NO_DIFFERENCE
    assert any("5 of 9 runs did not converge" in note for note in found.notes)


def test_the_parts_make_up_the_whole(sides):
    found = sides({"epochs": [8, 9, 10, 11]}, {"epochs": [5, 6, 7, 8], "epoch_ms": 1300})
    assert found.time.value == pytest.approx(found.epochs.value * found.per_epoch.value)
    a, b = found.a.as_json(), found.b.as_json()
    assert sum(s["a_s"] for s in found.stages) == pytest.approx(a["mean_s"])
    assert sum(s["difference_s"] for s in found.stages) == pytest.approx(b["mean_s"] - a["mean_s"])


def test_it_names_the_settings_that_differ(sides):
    found = sides({"epochs": [8, 9, 10, 11]},
                  {"epochs": [8, 9, 10, 11], "values": {"precision": "bfloat16"}})
    assert found.notes == ["the sets differ in precision: A float32, B bfloat16"]


@pytest.mark.parametrize("second, words", [
    ({"track_name": "ml-1m"}, "ml-1m"), ({"values": {"eval_target": 0.1}}, "0.1"),
    ({"track_name": "ml-20m-synthetic", "division": "open"}, "do not have one target")])
def test_other_tasks_are_not_compared(sides, second, words):
    with pytest.raises(UsageError, match=words):
        sides({"epochs": [3, 3]}, {"epochs": [3, 3], **second})


def test_equal_sets_are_told_apart_at_most_once_in_twenty(tmp_path):
    """Real machinery on 400 pairs of sets whose times come from one distribution."""
    write_set(tmp_path, [3, 3, 3, 3, 3])
    base, draw, wrong = read_one_set(tmp_path), random.Random(1), 0
    for _ in range(400):
        for runs in (pair := [read_like(base, draw) for _ in range(2)]):
            assert len(runs.runs) == 5
        wrong += compare_sets(*pair).verdict != NO_DIFFERENCE
    assert wrong / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


class _Facts:
    """A run's facts with another time."""

    def __init__(self, facts, seconds):
        self._facts, self.seconds = facts, seconds

    def __getattr__(self, name):
        return getattr(self._facts, name)


def read_like(base, draw):
    from dataclasses import replace
    runs = []
    for run in base.runs:
        file = replace(run.file, facts=_Facts(run.file.facts, draw.lognormvariate(3, 0.3)))
        runs.append(replace(run, file=file))
    return replace(base, runs=runs)


def test_exit_codes_and_formats(sides, tmp_path, capsys):
    sides({"epochs": [10, 11, 12, 13]}, {"epochs": [4, 5, 6, 7]})
    args = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("faster: B takes 0.4") and "training" in out
    assert main([*args, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == FASTER and data["time"]["ci95"][1] < 1 and data["a"]["runs"] == 4
    for form in ("csv", "markdown"):
        assert main([*args, "--format", form]) == 0
        assert "faster" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a"), str(tmp_path)]) == 1
    assert "2 sets under it" in capsys.readouterr().err
    write_log(tmp_path / "b" / "result_9.txt", bad_log("no run_stop")[0])
    assert main(args) == 3


def test_the_same_folders_give_the_same_bytes(sides, tmp_path, capsys):
    sides({"epochs": [10, 11, 12, 13]}, {"epochs": [4, 5, 6, 7]})
    answers = []
    for _ in range(2):
        main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--format", "json"])
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_the_real_submissions(shared_dir):
    logs = shared_dir / "logs_v05"
    if not logs.is_dir():
        pytest.skip("no real v0.5 logs here")
    found = compare_folders(logs / "nvidia_dgx1", logs / "intel_skx8180")
    assert found.verdict == SLOWER and len(found.a.converged) == 86
    assert found.time.value == pytest.approx(found.epochs.value * found.per_epoch.value)
    assert found.epochs.high < 1 < found.per_epoch.low
