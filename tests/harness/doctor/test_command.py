"""`python -m harness --doctor`: exit codes, what it imports, and that it writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# An engine without TensorFlow, so that the child process starts fast.
TOY = "--engine=tests.support.runs.toy_engine:ToyEngine"


def doctor(tmp_path: Path, *flags: str, code: str | None = None) -> subprocess.CompletedProcess:
    """Runs the doctor, or the code, with all folders of the user below a temporary one."""
    environment = {**os.environ, "HOME": str(tmp_path),
                   "XDG_CACHE_HOME": str(tmp_path / "cache")}
    start = ["-c", code] if code else ["-m", "harness"]
    return subprocess.run(
        [sys.executable, *start, "--doctor", f"--data_dir={tmp_path / 'data'}",
         f"--results_dir={tmp_path / 'results'}", *flags],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_the_answer_names_what_a_run_uses_and_what_disturbs_it_and_changes_nothing(tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code = ("import sys; from harness.__main__ import main; code = main(sys.argv[1:]); "
            "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules), 'loaded'; "
            "sys.exit(code)")
    done = doctor(tmp_path, TOY, "--synthetic_batches", code=code)
    assert done.returncode in (0, 2) and done.stderr == "", done
    for name in ("device", "engine", "bfloat16", "versions", "threads", "memory", "disk", "caches",
                 "data", "load", "steal", "governor", "turbo", "swap", "clock", "checkout",
                 "steadiness"):
        assert any(line[12:].startswith(name) for line in done.stdout.splitlines()), name
    last = done.stdout.splitlines()[-1]
    assert last.startswith("FIT" if done.returncode == 0 else "NOT FIT")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_cannot_start_is_not_fit(tmp_path):
    done = doctor(tmp_path, "--engine=nowhere:Engine", "--synthetic_batches")
    assert done.returncode == 2
    assert "nowhere" in done.stdout and done.stdout.splitlines()[-1].startswith("NOT FIT")


@pytest.mark.parametrize("flags, message", [
    (["--audit=x"], "--doctor and --audit cannot be combined"),
    (["--new_track=x"], "--doctor and --new_track cannot be combined"),
    (["--device=3x"], "--device=3x"), (["--track=nothing"], "track 'nothing' is neither"),
    (["--doctor=perhaps"], "--doctor=perhaps: use true or false")])
def test_wrong_usage_is_one_line_and_exit_1(tmp_path, flags, message):
    done = doctor(tmp_path, *flags)
    assert done.returncode == 1 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("flags, expected", [
    ([], "runtime tensorflow"), (["--device=cpu", "--runtime=pjrt"], "runtime pjrt"),
    (["--track=ml-1m", "--precision=bfloat16"], "A run of ml-1m here")])
def test_flags_choose_device_runtime_and_track(tmp_path, flags, expected):
    pytest.importorskip("tensorflow")
    if "--runtime=pjrt" in flags:
        pytest.importorskip("jax")
    done = doctor(tmp_path, "--synthetic_batches", *flags)
    assert done.returncode in (0, 2) and done.stderr == "", done
    assert expected in done.stdout and "this CPU" in done.stdout
