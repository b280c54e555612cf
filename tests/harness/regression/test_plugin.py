"""The pytest plug-in in a project of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from compliance.regress.files import read_recording
from tests.support.paths import DATA, ROOT
from tests.support.runs.harness_runs import environment

pytest.importorskip("pytest_benchmark")

PLUGIN = "harness.regression.plugin"
TOY = "--neumf-engine=tests.support.runs.toy_engine:ToyEngine"
TINY = f"--neumf-track={DATA / 'tiny-track.yaml'}"
MEASURED = """
def test_epoch(neumf):
    assert neumf.train_epoch(rounds=2).examples > 0

def test_evaluation(neumf):
    neumf.evaluate(rounds=2)

def test_time_to_train(neumf):
    assert neumf.time_to_train(target=0.2, max_epochs=5, rounds=1)[0] >= 0.2

def test_kernel(neumf):
    assert neumf.measure(lambda: 6 * 7, group="kernel", version="a") == 42
"""


def run(folder: Path, text: str, *flags: str) -> subprocess.CompletedProcess:
    """Runs pytest in a project with one test file, with the plug-in as installed."""
    (folder / "test_it.py").write_text(text)
    is_installed = any(p.value == PLUGIN for p in entry_points(group="pytest11"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *flags]
    command += [] if is_installed else ["-p", PLUGIN]
    variables = {k: v for k, v in environment().items() if not k.startswith("PYTEST_")}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The benchmarks of one call of pytest by name, and the file."""
    folder = tmp_path_factory.mktemp("project")
    done = run(folder, MEASURED, TOY, TINY, f"--neumf-data-dir={folder}", "--benchmark-json=a.json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((folder / "a.json").read_text())
    return {b["fullname"]: b for b in document["benchmarks"]}, folder / "a.json"


def test_hit_rate_and_seed_are_recorded(recorded):
    for name in ("epoch", "evaluation", "time_to_train"):
        facts = recorded[0][f"test_it.py::test_{name}"]["extra_info"]
        assert facts["seed"] == 7 and facts["hr"] > 0
        assert facts["track"] == "tiny" and facts["engine"].endswith(":ToyEngine")
    assert recorded[0]["test_it.py::test_time_to_train"]["extra_info"]["epochs"] >= 1
    assert recorded[0]["test_it.py::test_kernel"]["extra_info"]["input"].endswith(" a")


def test_regress_reads_the_calibration_of_the_same_call(recorded):
    """Its names do not depend on where the package is installed."""
    recording = read_recording(recorded[1])
    calibrations = {n for n, b in recording.benchmarks.items() if b.is_calibration}
    assert calibrations == {f"neumf_calibration::test_{name}"
                            for name in ("matrix_product", "copy", "python_loop")}
    assert len(recording.benchmarks) == 7
    assert "numpy" in json.loads(recorded[1].read_text())["machine_info"]["packages"]


def test_a_run_without_the_fixtures_is_not_changed(tmp_path):
    done = run(tmp_path, """
import sys

def test_own(benchmark):
    benchmark.pedantic(len, ((),))
    ours = {name.partition(".")[0] for name in sys.modules}
    assert not ours & {"tensorflow", "compliance", "reference_model", "keras"}
    assert {n for n in sys.modules if n.startswith("harness.")} == {
        "harness.regression", "harness.regression.plugin"}
""", "--benchmark-json=a.json")
    assert done.returncode == 0, done.stdout
    document = json.loads((tmp_path / "a.json").read_text())
    assert len(document["benchmarks"]) == 1 and "packages" not in document["machine_info"]


@pytest.mark.parametrize("test, flags, code, said", [
    ("neumf): pass", ["--neumf-engine=nothing:X"], 1, "--neumf-engine=nothing:X: there is no module"),
    ("neumf): pass", [TOY, "--neumf-track=nope"], 1, "neither a built-in track"),
    ("neumf_conformance): pass", ["--neumf-engine=nothing:X"], 1, "No module named 'nothing'"),
    ("neumf): pass", ["-p", "no:benchmark"], 4, "pip install pytest-benchmark")])
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, test, flags, code, said):
    done = run(tmp_path, f"def test_it({test}", *flags, "--benchmark-disable"
               if "no:benchmark" not in flags else "-q")
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert said in output and "Traceback" not in output and "During handling" not in output


def test_an_engine_below_the_target_fails(tmp_path):
    done = run(tmp_path, "def test_it(neumf): neumf.time_to_train(1.0, 1, 1)", TOY, TINY,
               "--benchmark-disable", f"--neumf-data-dir={tmp_path}")
    assert done.returncode == 1 and "after 1 epochs is below the target 1" in done.stdout


@pytest.mark.slow
def test_the_project_of_the_page_passes(tmp_path, ml_100k_file):
    pytest.importorskip("tensorflow")
    page = (ROOT / "docs" / "regression-tracking.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"`([\w.]+)`[^`]*?:\n\n```\w+\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    data = next(p for p in ml_100k_file.parents if (p / "ml-100k") in ml_100k_file.parents)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    # One process instead of six.
    script = (tmp_path / "record.sh").read_text().replace("1 2 3 4 5 6", "1")
    (tmp_path / "record.sh").write_text(script)
    variables = environment()
    variables["PATH"] = f"{tmp_path / 'bin'}:{variables['PATH']}"
    done = subprocess.run(
        ["bash", "record.sh", "before", f"--neumf-data-dir={data}"], cwd=tmp_path,
        env={k: v for k, v in variables.items() if not k.startswith("PYTEST_")},
        capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    recording = read_recording(tmp_path / "before")
    assert len(recording.benchmarks) == 7
    assert all("batch 8192" in next(iter(b.inputs)) for b in recording.benchmarks.values()
               if not b.is_calibration)
