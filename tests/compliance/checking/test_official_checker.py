"""The official checker, with our rules in its own format, agrees with this checker."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from mlperf_logging.compliance_checker import mlp_compliance

from compliance.checking.checker import check_file
from compliance.checking.ruleset import RULES_DIR
from tests.support.logs.log_builder import BAD_LOGS, bad_log, good_log, write_log

CONFIG = RULES_DIR / "official_ncf.yaml"
# Only this checker tests these: the track's values, numbers as text, background work.
ONLY_OURS = {"track is a path", "track is open", "time is text", "no negatives drawn",
             "fewer negatives", "model smaller", "layers smaller", "other data",
             "negatives before the clock", "negatives drawn at a time unknown", "shards prepared",
             "no configuration", "an incomplete configuration", "too few masked candidates",
             "caches cleared during the run"}


def official_passes(path) -> bool:
    checker = mlp_compliance.make_checker("training", "6.1.0", quiet=True, werror=False)
    logging.disable(logging.CRITICAL)
    try:
        return mlp_compliance.main(str(path), str(CONFIG), checker)[0]
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("track", ["ml-100k", "ml-1m", "ml-1m-paper", "ml-20m"])
@pytest.mark.parametrize("converged", [True, False])
def test_both_checkers_pass_a_good_log(tmp_path, track, converged):
    path = write_log(tmp_path / "a.txt", good_log(track, converged=converged))
    assert official_passes(path) and check_file(path).verdict == "pass"


@pytest.mark.parametrize("name", sorted(set(BAD_LOGS) - ONLY_OURS))
def test_both_checkers_fail_a_broken_log(tmp_path, name):
    path = write_log(tmp_path / "b.txt", bad_log(name)[0])
    assert not official_passes(path) and check_file(path).verdict != "pass"


@pytest.mark.parametrize("name", sorted(ONLY_OURS))
def test_only_this_checker_fails_what_the_official_one_does_not_judge(tmp_path, name):
    path = write_log(tmp_path / "b.txt", bad_log(name)[0])
    assert official_passes(path) and check_file(path).verdict == "fail"


@pytest.mark.parametrize("name, code", [(None, 0), ("target reached earlier", 1)])
def test_the_official_command_line_takes_our_rule_file(tmp_path, name, code):
    path = write_log(tmp_path / "a.txt", bad_log(name)[0] if name else good_log())
    done = subprocess.run(
        [sys.executable, "-m", "mlperf_logging.compliance_checker", "--usage", "training",
         "--ruleset", "6.1.0", "--config", str(CONFIG), str(path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
