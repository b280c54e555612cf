"""Tests of `report`."""

from __future__ import annotations

import json

import pytest

from compliance.__main__ import main
from compliance.report import formatting
from compliance.results.run_set import read_single_set
from tests.support.logs.log_builder import bad_log, good_log, write_log
from tests.support.logs.run_sets import without_gaps, write_set
from tests.support.paths import DATA


@pytest.fixture
def report(tmp_path, capsys):
    def call(*args, code=0):
        assert main(["report", str(tmp_path), *args]) == code
        return capsys.readouterr().out
    return call


def test_json_has_the_figures_of_every_run_and_set(report, tmp_path):
    write_set(tmp_path / "s", [7, 8, 9, 7, 8])
    data = json.loads(report("--format", "json"))
    (found,) = data["sets"]
    assert found["verdict"] == "pass" and found["score"]["seconds"] > 0
    run = found["per_run"][2]
    assert (run["verdict"], run["epochs"], run["converged"]) == ("pass", 9, True)
    assert run["final_accuracy"] == run["best_accuracy"] >= run["target"]
    logged = [r["value"] for r in without_gaps(good_log()) if r["key"] == "tracked_stats"][0]
    assert run["throughput"] == pytest.approx(logged["throughput"], rel=0.2)
    assert run["eval_throughput"] == pytest.approx(logged["eval_throughput"], rel=0.2)
    assert run["violations"] == [] and run["stage_warning"] is None
    summary = found["summary"]
    assert (summary["runs"], summary["converged"]) == (5, 5)
    assert summary["mean_epochs"] == pytest.approx(7.8)


def test_stage_times_add_up_to_the_run(report, tmp_path):
    write_set(tmp_path, [7, 8, 9])
    for run in json.loads(report("--format", "json"))["sets"][0]["per_run"]:
        stages = run["stages"]
        parts = [stages[f"{s}_s"] for s in ("data", "sampling", "training", "evaluation", "rest")]
        assert sum(parts) == pytest.approx(run["seconds"]) and stages["add_up"]
        assert abs(stages["rest_s"]) <= 0.001 * run["seconds"]


def test_stage_times_that_do_not_add_up_are_a_warning(report, tmp_path):
    write_log(tmp_path / "result_0.txt", good_log(epochs=7))
    out = report()
    assert "in no stage" in out and "warning: result_0.txt  stages" in out
    run = json.loads(report("--format", "json"))["sets"][0]["per_run"][0]
    assert "in no stage" in run["stage_warning"] and not run["stages"]["add_up"]


def test_violations_come_with_their_fix(report, tmp_path):
    write_set(tmp_path, [7, 8, 9, 7])
    write_log(tmp_path / "result_4.txt", bad_log("top k")[0])
    out = report()
    assert "NCF-TOP-K" in out and "fix: " in out and out.splitlines()[-1] == \
        "FAIL: 1 of 5 logs is not compliant"
    assert "no score" in out
    assert "NCF-TOP-K" in report("--format", "csv") and "NCF-TOP-K" in report("--format", "markdown")


def test_a_log_that_cannot_be_read_has_a_row_all_the_same(report, tmp_path):
    write_set(tmp_path, [7, 8])
    (tmp_path / "result_2.txt").write_text("nothing\n")
    write_log(tmp_path / "result_3.txt", bad_log("no run_stop")[0])
    out = report()
    assert "result_2.txt  unreadable " in out
    assert out.splitlines()[-1] == "FAIL: 2 of 4 logs are unreadable"
    runs = json.loads(report("--format", "json"))["sets"][0]["per_run"]
    assert [r["verdict"] for r in runs][2:3] == ["unreadable"] and runs[3]["stages"] is None


def test_several_sets_are_reported_one_by_one(report, tmp_path):
    write_set(tmp_path / "a", [7, 8])
    write_set(tmp_path / "a" / "b", [7])
    out = report("--format", "markdown")
    assert out.count("\n### ") == 2 and out.startswith("## PASS: 2 sets, 3 logs\n")
    rows = report("--format", "csv").splitlines()
    assert len(rows) == 4 and all(row.count(",") >= rows[0].count(",") for row in rows)


def test_real_v05_sets_are_reported(shared_dir, capsys):
    folder = shared_dir / "logs_v05" / "nvidia_dgx1"
    if not folder.is_dir():
        pytest.skip("the shared folder has no v0.5 logs")
    assert main(["report", str(folder), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["sets"]
    assert found["verdict"] == "fail"  # closed: level 2
    gold = json.loads((folder.parent / "gold.json").read_text())["submissions"]["nvidia_dgx1"]
    assert found["score"]["seconds"] == gold["score_seconds"]
    assert all(run["stages"]["add_up"] for run in found["per_run"])


@pytest.mark.parametrize(
    "value, shown", [(-0.0004, "0.000"), (-0.0006, "-0.001"), (1.2345, "1.234"), (None, "-")]
)
def test_a_number_is_never_minus_zero(value, shown):
    assert formatting.format_number(value, 3) == shown


@pytest.mark.parametrize("named, shown", [("ml-100k", "ml-100k"), (None, "-"), (["x"], "-")])
def test_a_v05_log_is_of_the_track_that_it_names(report, tmp_path, named, shown):
    lines = (DATA / "good" / "v05_level2.txt").read_text().splitlines()
    event = json.dumps({"key": "track", "value": named, "metadata": {}})
    lines.insert(2, f":::MLPv0.5.0 ncf 1541731859.0 (run.py:10) mllog: {event}")
    (tmp_path / "result_0.txt").write_text("\n".join(lines) + "\n")
    assert f"; track {shown}, " in report()
    run_set = read_single_set(tmp_path)
    assert run_set.track.name == (shown if shown != "-" else "ml-20m")
