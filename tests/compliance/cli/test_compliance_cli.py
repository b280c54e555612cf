"""The verbs on the command line: exit codes, JSON members, one-line usage errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.logs.log_builder import bad_log, good_log, index_of, write_log
from tests.support.paths import ROOT

FILE_KEYS = {"path", "sha256", "dialect", "ruleset", "verdict", "run", "violations", "warnings"}


def call(*args, cwd=None):
    """Runs `python -m compliance` from another folder, like an installed package."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "compliance", *map(str, args)], env=env, cwd=cwd,
                          capture_output=True, text=True, encoding="utf-8", timeout=60)


@pytest.fixture
def a_set(tmp_path):
    for i in range(5):
        write_log(tmp_path / "s" / f"result_{i}.txt",
                  good_log(seed=i + 1, start_ms=10**12 + i * 10**6, epoch_ms=1000 * (i + 1)))
    return tmp_path / "s"


def test_check_of_a_good_set_exits_0_and_prints_the_verdict_last(a_set, tmp_path):
    done = call("check", a_set, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "compliant: 5 logs under ncf-closed"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_check_of_a_folder_names_text_files_that_it_did_not_read(a_set, tmp_path):
    for name in ("result-5.txt", "run.log", "notes.md"):
        (a_set / name).write_text("")
    done = call("check", a_set, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == (f"neumf-compliance: not read: {a_set / 'result-5.txt'} and 1 more; in a "
                           "folder, only result_*.txt is read\n")


def test_check_of_a_bad_log_exits_2_and_names_rule_line_and_fix(tmp_path):
    records, _, line = bad_log("a digit of the last accuracy")
    done = call("check", write_log(tmp_path / "a.txt", records), cwd=tmp_path)
    assert done.returncode == 2
    assert f"a.txt:{line}  NCF-ACCURACY-HITS" in done.stdout and "fix: " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_check_of_an_incomplete_log_exits_3(tmp_path):
    assert call("check", write_log(tmp_path / "a.txt", bad_log("no run_stop")[0])).returncode == 3
    (tmp_path / "empty.txt").write_text("")
    assert call("check", tmp_path / "empty.txt").returncode == 3


def test_check_as_json_has_the_members_of_the_contract(tmp_path):
    path = write_log(tmp_path / "a.txt", bad_log("time infinite")[0])
    done = call("check", path, "--format", "json")
    data = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    assert set(data) == {"schema_version", "ruleset", "verdict", "files"}
    assert (data["schema_version"], data["ruleset"], data["verdict"]) == (1, "ncf-closed", "fail")
    (file,) = data["files"]
    assert set(file) == FILE_KEYS and file["dialect"] == "mllog"
    assert all(set(v) == {"rule", "line", "message", "fix"} for v in file["violations"])


@pytest.mark.parametrize("form", ["csv", "markdown"])
def test_every_verb_answers_in_csv_and_markdown(a_set, form):
    for verb in ("check", "score", "report", "rules"):
        done = call(verb, *(() if verb == "rules" else (a_set,)), "--format", form)
        assert done.returncode == 0 and done.stdout.strip(), verb


def test_score_prints_the_score_and_has_the_members_of_the_contract(a_set):
    done = call("score", a_set)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("score ")
    data = json.loads(call("score", a_set, "--format", "json").stdout)
    assert set(data) == {"schema_version", "rule", "runs", "converged", "counted", "seconds",
                         "reason", "dropped_fastest_s", "dropped_slowest_s", "median_s", "ci95_s",
                         "per_run"}
    assert set(data["per_run"][0]) == {"path", "seconds", "converged", "counted"}
    (a_set / "result_4.txt").unlink()
    done = call("score", a_set)
    assert done.returncode == 2 and "4 of 5 runs" in done.stdout


def test_report_exits_0_even_if_logs_fail(a_set):
    write_log(a_set / "result_0.txt", bad_log("top k")[0])
    done = call("report", a_set)
    assert done.returncode == 0 and "NCF-TOP-K" in done.stdout
    assert done.stdout.splitlines()[-1] == "FAIL: 5 of 5 logs are not compliant"
    data = json.loads(call("report", a_set, "--format", "json").stdout)
    assert data["check"]["verdict"] == "fail" and data["sets"][0]["score"]["seconds"] is None


def test_rules_prints_every_ruleset():
    done = call("rules", "ncf-closed")
    assert done.returncode == 0 and "NCF-RUN-STOP" in done.stdout and "why: " in done.stdout
    assert len(json.loads(call("rules", "--format", "json").stdout)["rulesets"]) >= 5


@pytest.mark.parametrize("args", [
    ("judge",), ("check",), ("check", "--ruleset", "x", "a"), ("check", "none.txt"), ("score", "."),
    ("check", "."), ("score", "none"), ("report", "none"), ("rules", "ncf"),
    ("rules", "ncf-open", "x"),
    ("check", "--bogus", "a"), ("report", ".", "--html", "x.html"), ("compare", "a", "b"),
    ("convergence", "a"), ("trace", "a", "--output", "b"), ("package", "a"), ("regress", "a", "b")])
def test_wrong_usage_exits_1_with_one_line(tmp_path, args):
    done = call(*args, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_help_exits_0():
    assert call("--help").returncode == 0 and call("check", "--help").returncode == 0


def test_check_of_one_log_imports_neither_tensorflow_nor_pandas(tmp_path):
    """These imports would make it slow; tests/benchmarks measures the speed."""
    path = write_log(tmp_path / "a.txt", good_log(epochs=20))
    code = ("import sys; from compliance.__main__ import main; "
            "code = main(['check', sys.argv[1]]); "
            "assert not {'tensorflow', 'pandas', 'numpy', 'harness', 'reference_model'} "
            "& set(sys.modules); sys.exit(code)")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=env, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_control_characters_of_a_log_do_not_reach_the_terminal(tmp_path):
    records = good_log()
    records[index_of(records, "submission_status")]["value"] = "\x1b[2J\ud800"
    done = call("check", write_log(tmp_path / "a.txt", records))
    assert done.returncode == 2 and "\x1b" not in done.stdout
