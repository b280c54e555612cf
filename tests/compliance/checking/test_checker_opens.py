"""The checker opens only its arguments, its own data and its outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.logs.log_builder import good_log, index_of, write_log
from tests.support.paths import DATA, ROOT

WATCH = """
import json, os, sys
opened = []
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(os.path.realpath(os.fsdecode(args[0])))
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn")):
        opened.append(event)
sys.addaudithook(watch)
from compliance.__main__ import main
code = main(sys.argv[1:])
json.dump([code, opened], sys.stderr)
"""
# Python itself reads modules; no data file that a log could name has these endings.
MODULES = (".py", ".pyc", ".so", ".pth", ".pyd", ".zip", ".egg-link", ".abi3.so")


def opened(tmp_path, *args) -> tuple[int, set[str]]:
    """Calls `compliance` from another folder; returns (exit code, opened files except modules)."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", WATCH, *map(str, args)], env=env, cwd=tmp_path,
                          capture_output=True, text=True, encoding="utf-8", timeout=60)
    code, names = json.loads(done.stderr.splitlines()[-1])
    return code, {n for n in names if not n.endswith(MODULES)}


def is_own(name: str) -> bool:
    """Whether the file belongs to the package data: rules, tracks, reference points."""
    return Path(name).suffix in (".yaml", ".json") and ROOT / "compliance" in Path(name).parents


@pytest.mark.parametrize("key, value", [
    ("track", "{}"), ("track", "../../../{}"), ("submission_benchmark", "{}"),
    ("submission_division", "../{}"), ("submission_platform", "{}"), ("dataset_name", "{}"),
    ("engine", "{}"), ("submission_org", "file://{}")])
def test_nothing_in_a_log_chooses_a_file(tmp_path, key, value):
    bait = tmp_path / "bait.yaml"
    bait.write_text("name: mine\n")
    records = good_log()
    records[index_of(records, key)]["value"] = value.format(bait)
    records[index_of(records, key)]["metadata"]["file"] = str(bait)
    log = write_log(tmp_path / "logs" / "result_0.txt", records)
    for target in (log, log.parent):
        code, names = opened(tmp_path, "check", target)
        assert code in (0, 2)
        assert str(log) in names and {n for n in names if not is_own(n)} == {str(log)}


def test_scoring_and_reporting_open_only_the_logs(tmp_path):
    logs = {str(write_log(tmp_path / "s" / f"result_{i}.txt",
                          good_log(seed=i, start_ms=10 ** 12 + i))) for i in range(5)}
    for verb in ("check", "score", "report"):
        code, names = opened(tmp_path, verb, tmp_path / "s", "--format", "json")
        assert code == 0 and {n for n in names if not is_own(n)} - {"/dev/null"} == logs, verb


def test_an_entry_json_beside_a_v05_log_is_opened(tmp_path):
    log = tmp_path / "ncf" / "result_0.txt"
    log.parent.mkdir()
    log.write_bytes((DATA / "good" / "v05_level2.txt").read_bytes())
    entry = tmp_path / "entry.json"
    entry.write_text('{"division": "closed"}')
    code, names = opened(tmp_path, "check", log)
    beside = str(log.parent / "entry.json")  # opened, but does not exist
    assert code == 0
    assert {n for n in names if not is_own(n)} - {beside} == {str(log), str(entry)}
