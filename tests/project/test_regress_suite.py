"""Tests of the benchmark suite: ids, recordings, baselines and false alarms.

They measure no times.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from compliance.regress.files import read_recording
from compliance.regress.notes import processes_needed
from tests.benchmarks import against_power, false_alarms, run
from tests.benchmarks.merging import machine_class, merge, read_document, write_document
from tests.support.logs.recordings import MACHINE, around, document, write
from tests.support.paths import ROOT

SUITE = ROOT / "tests" / "benchmarks"


def ids() -> list[str]:
    return (SUITE / "ids.txt").read_text().split("\n")[:-1]


def test_ids_never_change_silently():
    """To change an id, also change tests/benchmarks/ids.txt and the baselines."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-qq", "-o", "addopts=",
                           "-p", "no:cacheprovider", "-p", "tests.benchmarks.listing",
                           "tests/benchmarks"], cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line.removeprefix("id: ") for line in done.stdout.splitlines() if line.startswith("id: ")]
    assert sorted(found) == ids()


def test_ids_are_plain():
    assert ids() == sorted(set(ids())) and all(i.isascii() and " " not in i for i in ids())


def test_the_default_number_of_processes_has_power():
    judged = [i for i in ids() if "calibration" not in i]
    assert processes_needed(len(judged)) < run.PROCESSES


@pytest.mark.parametrize("path", sorted((SUITE / "baselines").glob("*.json")), ids=lambda p: p.stem)
def test_committed_baselines_are_usable(path):
    assert path.stat().st_size < 200_000
    assert machine_class(json.loads(path.read_text())["machine_info"]) == path.stem
    side = read_recording(path)
    assert side.num_processes >= processes_needed(len(side.benchmarks))
    assert set(side.benchmarks) <= set(ids())


def test_a_merged_file_is_slim_and_keeps_what_counts(tmp_path):
    one = document({"calibration": [0.5], "a": [1.23456789]}, numbered=False,
                   calibration={"calibration": True}, a={"input": "v1", "hr": 0.5})  # fmt: skip
    one["machine_info"] = {**MACHINE, "cpu": {**MACHINE["cpu"], "flags": ["x"] * 500}}
    one["benchmarks"][1]["stats"]["data"] = [1.0] * 1000
    write_document(tmp_path / "m.json", merge([one, one]))
    merged = read_document(tmp_path / "m.json")
    assert (tmp_path / "m.json").stat().st_size < 2000 and merged["processes"] == 2
    assert "node" not in merged["machine_info"] and set(merged["machine_info"]["cpu"]) == set(MACHINE["cpu"])
    assert merged["benchmarks"][1] == {
        "fullname": "tests/benchmarks/test_x.py::a", "group": None,
        "extra_info": {"input": "v1", "hr": 0.5, "process": 2, "relative": 2.46914},
        "stats": {"median": 1.23457, "iqr": 0.0, "rounds": 3}}  # fmt: skip
    assert read_recording(tmp_path / "m.json").num_processes == 2


@pytest.mark.parametrize("brand, name", [
    ("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", "intel-xeon-e5-2690-v4-2-cores"),
    ("AMD EPYC", "amd-epyc-2-cores"), ("../../../etc", "etc-2-cores"), (None, "x86-64-2-cores")])  # fmt: skip
def test_classes_of_machines(brand, name):
    assert machine_class({"machine": "x86_64", "cpu": {"brand_raw": brand, "count": 2}}) == name


def test_a_class_tells_generations_of_one_name_apart():
    cpu = {"brand_raw": "AMD EPYC", "count": 2, "family": 25, "model": 17, "stepping": 1}
    assert machine_class({"cpu": cpu}) == "amd-epyc-family-25-model-17-2-cores"
    assert machine_class({"cpu": {**cpu, "model": "../x"}}) == "amd-epyc-family-25-2-cores"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A real recording of the fastest benchmark, in two processes."""
    folder = tmp_path_factory.mktemp("recorded")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.run", "--processes", "2", "--output",
         str(folder / "new.json"), "-k", "check_a_log_of_this_project"],
        cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    return folder, done


def test_a_run_records_each_process_and_merges(recorded):
    folder, done = recorded
    assert done.returncode == 0, done.stdout + done.stderr
    assert "process 2 of 2: 1 benchmarks" in done.stdout
    assert "not compared: pytest arguments change the suite" in done.stdout
    (entry_1, entry_2) = read_document(folder / "new.json")["benchmarks"]
    assert entry_1["extra_info"]["lines_per_s"] > 0 and entry_2["extra_info"]["process"] == 2
    assert len(entry_1["extra_info"]["input"]) == 16
    assert (folder / "new-processes" / "process_2.json").is_file()


def test_without_a_baseline_it_says_so_and_how_to_keep_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "BASELINES", tmp_path)
    merged = {"machine_info": MACHINE, "processes": 7, "benchmarks": [{}] * 7 * 60}
    assert run.compare(tmp_path / "new.json", {**merged, "processes": 6}) == 0
    assert "too few processes to make one: run at least 7" in capsys.readouterr().out
    assert run.compare(tmp_path / "new.json", merged) == 0
    assert capsys.readouterr().out == (
        f"no baseline for some-2-cores; keep this run with: cp {tmp_path}/new.json "
        f"{tmp_path}/some-2-cores.json\n")  # fmt: skip


@pytest.mark.parametrize("factor, code", [(1.0, 0), (1.5, 2)])
def test_with_a_baseline_the_exit_code_is_that_of_regress(tmp_path, monkeypatch, factor, code):
    monkeypatch.setattr(run, "BASELINES", tmp_path)
    write(tmp_path / "some-2-cores.json", document({"a": around(1)}))
    new = write(tmp_path / "new.json", document({"a": around(factor)}))
    assert run.compare(new, {**json.loads(new.read_text()), "processes": 5}) == code


def test_a_process_that_fails_is_1_and_named(tmp_path, capsys):
    assert run.main(["--processes", "1", "--output", str(tmp_path / "x.json"), "-k", "no_such_name"]) == 1
    err = capsys.readouterr().err
    assert "pytest exit 5" in err and "process_1.txt" in err
    assert run.main(["--processes", "0"]) == 1 and run.main(["--output", "results"]) == 1


class TestFalseAlarms:
    def test_they_are_counted(self, tmp_path, capsys):
        """Runs 1 to 3 are equal and run 4 is slower.

        So 1 of the 2 pairs that share no run raises an alarm, and 3 of all 12 ordered pairs.
        """
        for number, seconds in enumerate((1, 1, 1, 2), start=1):
            write(tmp_path / f"{number}.json", document({"a": around(seconds), "b": around(3)}))
        assert false_alarms.main([str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert "4 runs of 5 processes, threshold 10%" in out and "fewer than 20 runs" in out
        assert "pairs that share no run: 1 of 2 comparisons raised an alarm, 50.0%" in out
        assert "1 of 4 benchmark comparisons, 25.00%" in out
        assert "all pairs, both ways: 3 of 12 comparisons raised an alarm" in out

    def test_an_interval_by_hand(self):
        """For 0 of 19, the upper bound is z^2 / (n + z^2)."""
        assert false_alarms.interval(0, 19) == pytest.approx((0, 3.8415 / 22.8415), abs=1e-4)
        assert false_alarms.interval(0, 0) == (0, 1)

    def test_without_runs_it_is_1(self, tmp_path, capsys):
        assert false_alarms.main([str(tmp_path)]) == 1
        assert "at least two recorded runs" in capsys.readouterr().err


class TestPowerOfAgainst:
    def pairs(self, folder, spread, pairs=6):
        draw = random.Random(1)
        for number in range(1, pairs + 1):
            for side in "ab":
                times = {name: [draw.lognormvariate(0, spread) for _ in range(8)] for name in "abc"}
                write(folder / f"pair_{number:03}_{side}.json", document(times))

    def test_a_large_slowdown_of_steady_times_is_found_each_time(self, tmp_path, capsys):
        self.pairs(tmp_path, 0.005)
        assert against_power.main([str(tmp_path), "--planted", "20%"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["threshold 5%", "threshold 10%"]
        assert all("false alarms in 0 of 6" in line and "found in 6 of 6" in line for line in lines)

    def test_in_noise_it_is_not(self, tmp_path, capsys):
        self.pairs(tmp_path, 1.0)
        assert against_power.main([str(tmp_path), "--thresholds", "10%"]) == 0
        assert "found in 0 of 6 (0%, 95% 0% to 39%)" in capsys.readouterr().out

    def test_without_pairs_it_is_1(self, tmp_path, capsys):
        assert against_power.main([str(tmp_path)]) == 1
        assert "no recorded pair" in capsys.readouterr().err


class TestAgainst:
    """Two revisions in turn: a commit of this repository and the working tree."""

    def test_an_unknown_revision_is_one_line(self, capsys):
        assert run.main(["--against", "no-such-revision"]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "--against no-such-revision" in err

    def test_processes_are_recorded_in_turn_and_in_changing_order(self, tmp_path, monkeypatch):
        order = []

        def record(side, stem, arguments):
            order.append(side.root.name)
            return document({"a": [1.0]}, machine=MACHINE)

        monkeypatch.setattr(run, "_record_process", record)
        sides = [run.Side(tmp_path / name, "python", tmp_path / f"{name}.json") for name in ("old", "new")]
        merged = run.record_in_turn(sides, 3, [], lambda *_, **__: None)
        assert order == ["old", "new", "new", "old", "old", "new"]
        assert [m["processes"] for m in merged] == [3, 3] and sides[0].output.is_file()

    def test_a_revision_with_the_same_dependencies_shares_the_python(self, tmp_path):
        for name in ("pyproject.toml", "requirements/constraints.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text((ROOT / name).read_text() + "# a comment\n")
        assert run.choose_python(tmp_path) == sys.executable
