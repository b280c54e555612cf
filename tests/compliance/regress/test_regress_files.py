"""`regress`: the accepted forms of a side, recorded files, and untrusted files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance.__main__ import main
from compliance.base.errors import UsageError
from compliance.regress.files import read_recording
from compliance.regress.judge import compare_files
from tests.support.logs.recordings import MACHINE, around, document, entry, write
from tests.support.paths import DATA, ROOT

RECORDED = DATA / "regress"


def call(*args, cwd=ROOT) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "compliance", "regress", *map(str, args)], env=env,
                          cwd=cwd, capture_output=True, text=True, timeout=60)  # fmt: skip


class TestRecorded:
    """Merged recordings of tests/data/regress/toy_suite.py, made on one machine."""

    def test_a_repetition_exits_0_where_it_would_have_shown_the_threshold(self):
        """These recordings can detect slowdowns of 22 to 24%."""
        done = call(RECORDED / "baseline.json", RECORDED / "again.json", "--threshold", "25%")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-2:] == [
            "PASS: no regression: 4 benchmarks compared, 5 and 5 processes, threshold 25%,",
            "significance 5% over all benchmarks"]  # fmt: skip
        done = call(RECORDED / "baseline.json", RECORDED / "again.json")
        assert (done.returncode, done.stderr) == (1, "")
        assert "UNRESOLVED: 4 that may hide a slowdown above the threshold" in done.stdout

    def test_more_work_and_another_name_exit_2(self):
        done = call(RECORDED / "baseline.json", RECORDED / "slower.json", "--format", "json")
        assert done.returncode == 2
        data = json.loads(done.stdout)
        found = {r["name"].split("::")[1]: r["status"] for r in data["benchmarks"]}
        assert found == {"test_changed": "regression", "test_name[last]": "vanished",
                         "test_name[renamed]": "new", "test_steady[less]": "unresolved",
                         "test_steady[more]": "unresolved"}  # fmt: skip
        (slow,) = [r for r in data["benchmarks"] if r["status"] == "regression"]
        assert slow["ratio"] == pytest.approx(1.6, rel=0.1) and slow["p_holm"] == pytest.approx(3 / 252)

    def test_a_threshold_above_it_leaves_what_vanished(self):
        done = call(RECORDED / "baseline.json", RECORDED / "slower.json", "--threshold", "80%")
        assert done.returncode == 2 and "FAIL: 1 vanished, 1 new," in done.stdout

    def test_the_other_way_round_it_is_faster(self):
        done = call(RECORDED / "slower.json", RECORDED / "baseline.json", "--format", "markdown")
        assert done.returncode == 2 and "| improvement |" in done.stdout

    def test_no_baseline_exits_1_with_one_line(self, tmp_path):
        done = call("none.json", RECORDED / "again.json", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("neumf-compliance: none.json: there is no such file or folder; ")
        assert done.stderr.count("\n") == 1

    def test_needs_neither_tensorflow_nor_pandas(self):
        code = ("import sys; from compliance.__main__ import main; main(['regress', *sys.argv[1:]]); "
                "assert not {'tensorflow', 'pandas', 'scipy', 'harness'} & set(sys.modules)")  # fmt: skip
        files = [str(RECORDED / name) for name in ("baseline.json", "again.json")]
        done = subprocess.run([sys.executable, "-c", code, *files], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr


class TestRecordings:
    TIMES = {"a": around(1), "b": around(2, 5, 0.1)}

    def split(self) -> list[dict]:
        """Returns one document per process, in the format of pytest-benchmark."""
        return [document({name: [times[k]] for name, times in self.TIMES.items()}, numbered=False)
                for k in range(5)]  # fmt: skip

    def layouts(self, folder: Path) -> list[Path]:
        for number, one in enumerate(self.split()):
            write(folder / "folder" / f"{number}.json", one)
        write(folder / "folder" / "notes.txt", "not read")
        entries = [e for one in self.split() for e in one["benchmarks"]]
        return [
            folder / "folder",
            write(folder / "merged.json", document(self.TIMES)),
            write(folder / "unnumbered.json", document(self.TIMES, numbered=False)),
            write(folder / "concatenated.json", {**document({}), "benchmarks": entries}),
            write(folder / "list.json", self.split()),
        ]

    def test_all_layouts_give_the_same_medians(self, tmp_path):
        for path in self.layouts(tmp_path):
            recording = read_recording(path)
            found = {name.split("::")[1]: sorted(benchmark.medians.values())
                     for name, benchmark in recording.benchmarks.items()}  # fmt: skip
            assert found == {n: sorted(t) for n, t in self.TIMES.items()} and recording.num_processes == 5

    def test_all_layouts_pair_calibration_with_its_process(self, tmp_path):
        """Every process ran at a different speed; calibration removes the difference."""
        self.TIMES = {"calibration": [1, 2, 3, 4, 5], "a": [2, 4, 6, 8, 10]}
        paths = self.layouts(tmp_path)
        for path in paths:
            assert main(["regress", str(paths[0]), str(path), "--threshold", "0"]) == 0

    def test_a_plain_file_is_one_process(self, tmp_path, capsys):
        path = str(write(tmp_path / "a.json", self.split()[0]))
        assert main(["regress", path, path]) == 1
        done = capsys.readouterr()
        assert done.out == "" and len(done.err.splitlines()) == 1 and "a.json has 1" in done.err

    def test_a_recording_of_two_machines_is_refused(self, tmp_path):
        other = document(self.TIMES, machine={**MACHINE, "cpu": {}})
        with pytest.raises(UsageError, match="a different machine than the documents before it"):
            read_recording(write(tmp_path / "list.json", [document(self.TIMES), other]))

    @pytest.mark.parametrize("change, words", [
        ({"commit_info": {"id": "b" * 40}}, r"a different commit \(bbbb"),
        ({"machine_info": {**MACHINE, "python_version": "3.11.8"}}, "a different version of Python")])
    def test_a_recording_of_two_commits_or_pythons_is_refused(self, tmp_path, change, words):
        first = {**document(self.TIMES), "commit_info": {"id": "a" * 40}}
        with pytest.raises(UsageError, match=words):
            read_recording(write(tmp_path / "list.json", [first, {**first, **change}]))

    def test_equal_documents_count_once_and_are_told(self, tmp_path):
        copies = [self.split()[0]] * 3 + self.split()[1:]
        path = write(tmp_path / "list.json", copies)
        recording = read_recording(path)
        assert recording.num_processes == 5 and recording.num_equal == 2
        answer = compare_files(str(path), str(path), 0.1)
        assert "duplicate documents, which count once: 2" in answer.notes[0]

    def test_the_median_of_the_rounds_where_none_is_given(self, tmp_path):
        one = entry("a", None)
        one["stats"] = {"data": [3.0, 1.0, 2.5]}
        recording = read_recording(write(tmp_path / "a.json", {"benchmarks": [one]}))
        assert [list(s.medians.values()) for s in recording.benchmarks.values()] == [[2.5]]

    def test_long_versions_stay_different(self, tmp_path):
        for name, tail in (("a", "x"), ("b", "y")):
            info = {"a": {"input": "v" * 500 + tail}}
            write(tmp_path / f"{name}.json", document({"a": around(1)}, **info))
        recordings = [read_recording(tmp_path / f"{name}.json") for name in "ab"]
        inputs = [next(iter(recording.benchmarks.values())).inputs for recording in recordings]
        assert inputs[0] != inputs[1] and all(len(i) <= 80 for s in inputs for i in s)


BROKEN = {
    "empty": b"",
    "blanks": b" \n\n",
    "not text": b"\xff\xfe\x00",
    "no JSON": "median: 3",
    "cut off": json.dumps(document({"a": around(1)}))[:-40],
    "more behind it": "{} {}",
    "a number": "3",
    "null": "null",
    "an empty list": "[]",
    "no benchmarks": {"machine_info": MACHINE},
    "benchmarks of another type": {"benchmarks": {"a": 1}},
    "no entries": {"benchmarks": []},
    "an entry of another type": {"benchmarks": [3]},
    "no name": {"benchmarks": [{"stats": {"median": 1}}]},
    "a long name": {"benchmarks": [entry("a" * 2000, 1)]},
    "no stats": {"benchmarks": [{"fullname": "a"}]},
    "no median": {"benchmarks": [entry("a", None)]},
    "a median of text": {"benchmarks": [entry("a", "1")]},
    "true": {"benchmarks": [entry("a", True)]},
    "zero": {"benchmarks": [entry("a", 0)]},
    "negative": {"benchmarks": [entry("a", -1.5)]},
    "NaN": json.dumps({"benchmarks": [entry("a", float("nan"))]}),
    "infinite": json.dumps({"benchmarks": [entry("a", float("inf"))]}),
    "beyond a double": '{"benchmarks": [{"fullname": "a", "stats": {"median": 1e999}}]}',
    "many digits": '{"benchmarks": [{"fullname": "a", "stats": {"median": %s}}]}' % ("9" * 10_000),
    "deep": "[" * 100_000,
    "deep and closed": "[" * 500 + "]" * 500,
    "one key twice": '{"benchmarks": [], "benchmarks": [{"fullname": "a"}]}',
    "one process twice": {"benchmarks": [entry("a", 1, process=3), entry("a", 2, process=3)]},
    "two documents, one broken": [document({"a": around(1)}), 4],
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("output_format", ["table", "json"])
def test_a_file_without_usable_data_exits_1_with_one_line(tmp_path, monkeypatch, capsys, name, output_format):
    monkeypatch.chdir(tmp_path)  # a long path would be shortened in the line
    good = str(write(Path("good.json"), document({"a": around(1)})))
    bad = str(write(Path("bad.json"), BROKEN[name]))
    for pair in ((good, bad), (bad, good)):
        assert main(["regress", *pair, "--format", output_format]) == 1
        done = capsys.readouterr()
        assert done.out == "" and len(done.err.splitlines()) == 1 and len(done.err) < 400
        assert "bad.json" in done.err and "internal error" not in done.err


@pytest.mark.parametrize("name", ["empty folder", "folder of folders"])
def test_a_folder_without_files_exits_1(tmp_path, capsys, name):
    (tmp_path / "side" / "inner.d").mkdir(parents=True)
    assert main(["regress", str(tmp_path / "side"), str(tmp_path / "side")]) == 1
    assert "no *.json file" in capsys.readouterr().err


leaves = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=5), v, max_size=4),
    max_leaves=12)  # fmt: skip
names = st.sampled_from(["a", "calibration", "b|\n\x1b"]) | st.text(max_size=6)
entries = st.fixed_dictionaries({}, optional={
    "fullname": names | values, "group": values, "extra_info": values | st.fixed_dictionaries(
        {}, optional={"process": values | st.integers(1, 5), "input": values, "calibration": values}),
    "stats": values | st.fixed_dictionaries(
        {"median": st.floats(1e-9, 1e6) | values}, optional={"data": values})})  # fmt: skip
machines = values | st.fixed_dictionaries({}, optional={
    "cpu": values, "python_version": values, "node": values, "packages": values})  # fmt: skip
documents = st.fixed_dictionaries(
    {"benchmarks": st.lists(entries, max_size=12) | values}, optional={"machine_info": machines})  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=documents | values, second=documents | values,
       output_format=st.sampled_from(["table", "json", "csv", "markdown"]))  # fmt: skip
def test_whatever_the_files_hold_there_is_an_answer(tmp_path, capsys, first, second, output_format):
    paths = [str(write(tmp_path / f"{name}.json", value)) for name, value in (("a", first), ("b", second))]
    code = main(["regress", *paths, "--format", output_format])
    done = capsys.readouterr()
    assert code in (0, 1, 2) and "internal error" not in done.err and "\x1b" not in done.out
    if output_format == "json" and done.out:
        json.loads(done.out, parse_constant=lambda name: pytest.fail(name))


medians = st.lists(st.floats(1e-9, 1e3), min_size=5, max_size=9)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.dictionaries(st.sampled_from("abcdef"), medians, min_size=1),
       after=st.dictionaries(st.sampled_from("abcdef"), medians, min_size=1))  # fmt: skip
def test_the_exit_code_follows_the_statuses(tmp_path, capsys, before, after):
    paths = [str(write(tmp_path / f"{name}.json", document(value)))
             for name, value in (("a", before), ("b", after))]  # fmt: skip
    code = main(["regress", *paths, "--format", "json"])
    data = json.loads(capsys.readouterr().out)
    counts = data["counts"]
    assert set(before) - set(after) == {r["name"].split("::")[1] for r in data["benchmarks"]
                                        if r["status"] == "vanished"}  # fmt: skip
    for r in data["benchmarks"]:
        if r["status"] == "regression":
            assert r["ratio"] > 1.1 and r["p_holm"] <= 0.05
    failed, open_ = counts["regression"] + counts["vanished"], counts["unresolved"]
    assert code == (2 if failed else 1 if open_ or not data["compared"] else 0)
