"""PASS or FAIL of a set, apart from the compliance of its logs."""

from __future__ import annotations

import pytest

from compliance.__main__ import main
from compliance.results.run_set import read_single_set
from compliance.results.scoring import score_checked_set
from compliance.results.set_verdict import judge_set
from tests.support.logs.log_builder import bad_log, write_log
from tests.support.logs.run_sets import write_set


def verdict(folder):
    run_set = read_single_set(folder)
    return judge_set(run_set.files, score_checked_set(run_set.files)).text


@pytest.mark.parametrize("epochs, missed, settings, expected", [
    ([7, 8, 9, 7, 8], [], {}, "PASS: 7.804 s, 5 of 5 runs converged"),
    ([7, 25, 9, 7, 8], [1], {}, "PASS: 8.142 s, 4 of 5 runs converged"),
    ([7, 25, 25, 7, 8], [1, 2], {}, "FAIL: 2 of 5 runs did not reach the target"),
    ([25], [0], {}, "FAIL: 1 of 1 runs did not reach the target"),
    ([7, 8], [], {}, "PASS: valid, unscored: 2 of 5 runs"),
    ([7] * 6, [], {}, "PASS: valid, unscored: 6 runs, but the scoring rule takes 5"),
    ([3], [], {"reason": "killed", "converged": False}, "FAIL: no run is complete")])
def test_a_set_passes_or_fails_by_its_runs(tmp_path, epochs, missed, settings, expected):
    assert verdict(write_set(tmp_path, epochs, missed, **settings)) == expected


def test_logs_that_are_not_compliant_fail_the_set(tmp_path):
    write_set(tmp_path, [7, 8, 9, 7])
    write_log(tmp_path / "result_4.txt", bad_log("top k")[0])
    assert verdict(tmp_path) == "FAIL: 1 of 5 logs is not compliant"
    (tmp_path / "result_3.txt").write_text("nothing\n")
    assert verdict(tmp_path) == "FAIL: 1 of 5 logs is not compliant, 1 is unreadable"


def test_the_verbs_do_not_call_a_set_without_a_converged_run_passed(tmp_path, capsys):
    """The logs are compliant, so `check` exits with 0; the set fails, as the harness says."""
    write_set(tmp_path, [25], [0])
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "compliant: 1 log under ncf-closed"
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "FAIL; every log is compliant" in printed and "PASS" not in printed
    assert printed.splitlines()[-1] == "FAIL: 1 of 1 runs did not reach the target"
