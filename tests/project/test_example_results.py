"""The committed example results are complete, valid, scored and clean."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import pytest

from compliance.checking.checker import check_paths
from compliance.report.formatting import format_seconds
from compliance.results.scoring import score_folder
from compliance.tracks import load_track
from tests.support.paths import ROOT

EXAMPLES = sorted((ROOT / "results").glob("example_*"))
SETS = [folder for example in EXAMPLES for folder in sorted(example.glob("ncf-*"))]
FILES = [path for example in EXAMPLES for path in sorted(example.rglob("*")) if path.is_file()]
MAX_BYTES = 1 << 20


def records(log):
    lines = log.read_text(encoding="utf-8").splitlines()
    return {r["key"]: r for r in (json.loads(line.removeprefix(":::MLLOG ")) for line in lines)}


def test_there_are_results_of_two_tracks():
    assert {folder.name for folder in SETS} >= {"ncf-ml-100k", "ncf-ml-1m"}


@pytest.mark.parametrize("folder", SETS, ids=lambda f: f"{f.parent.name}/{f.name}")
class TestASet:
    def test_it_passes_under_the_closed_rules_with_its_ledger_beside(self, folder):
        found = check_paths([folder])
        errors = [(f.path, v.rule) for f in found.files for v in f.errors.list()]
        assert (found.verdict, errors) == ("pass", [])
        assert {f.ruleset for f in found.files} == {"ncf-closed"}
        assert (folder.parent / "attempts" / folder.name / "ledger.jsonl").is_file()

    def test_it_has_a_score_of_all_the_runs_that_its_track_wants(self, folder):
        score = score_folder(folder)
        track = load_track(folder.name.removeprefix("ncf-"))
        assert score.result.seconds > 0 and len(score.runs) == track.runs

    def test_it_was_made_by_one_clean_commit_of_this_project(self, folder):
        sources = [records(log)["source"] for log in folder.glob("result_*.txt")]
        assert {s["metadata"]["dirty"] for s in sources} == {False}
        (commit,) = {s["metadata"]["commit"] for s in sources}
        if (ROOT / ".git").exists():
            known = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT)
            assert known.returncode == 0

    def test_its_report_says_its_score(self, folder):
        score = score_folder(folder).result.seconds
        said = {f"{folder.name}.txt": f"{score:.3f}", "report.md": f"{score:.3f}"}
        for name, text in {**said, "report.html": format_seconds(score)}.items():
            assert text in (folder.parent / "reports" / name).read_text(encoding="utf-8"), name


def test_they_are_small():
    assert sum(path.stat().st_size for path in FILES) < MAX_BYTES


def test_they_name_no_folder_host_or_user_of_the_machine():
    names = {platform.node(), str(Path.home()), str(ROOT)} - {"", "/", "localhost"}
    if getpass.getuser() not in ("root", "user"):
        names.add(getpass.getuser())
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert [name for name in names if name in text] == [], path
        assert not re.search(r"(?<![\w./:*-])/(?:home|tmp|root|work|usr|var|opt)/", text), path


def test_they_hold_logs_ledgers_reports_and_nothing_else():
    kinds = re.compile(r"system\.json|reports/[\w-]+\.(txt|json|md|html)|ncf-[\w-]+/result_\d+\.txt"
                       r"|attempts/ncf-[\w-]+/ledger\.jsonl")
    for path in FILES:
        example = next(e for e in EXAMPLES if e in path.parents)
        assert kinds.fullmatch(path.relative_to(example).as_posix()), path


def test_the_command_that_makes_them_can_be_run():
    assert os.access(ROOT / "scripts" / "example_results.sh", os.X_OK)
