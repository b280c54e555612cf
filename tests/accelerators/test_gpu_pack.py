"""The pack for a machine with a GPU, rehearsed on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reference_model.data.synthetic import SyntheticShape
from scripts.gpu_pack import measures
from scripts.gpu_pack.__main__ import copy_sources, main, make_cases
from scripts.gpu_pack.cases import Case, read_cases, write_cases
from scripts.gpu_pack.record import Record, markdown
from tests.support.paths import ROOT

EXPECTED = {"losses": [0.5, 0.25], "hits": 1000, "users": 6040}


@pytest.mark.parametrize("losses, hits, precision, is_good", [
    ([0.5, 0.25], 1000, "float32", True),
    ([0.5, 0.250001], 1000, "float32", True),  # a difference of 4e-6
    ([0.5, 0.25001], 1000, "float32", False),  # 4e-5
    ([0.5, 0.25001], 1000, "tf32", True),
    ([0.5, 0.25], 1006, "float32", True),  # 0.1% of 6,040 users
    ([0.5, 0.25], 1007, "float32", False),
    ([0.5], 1000, "float32", False),  # a step is missing
    ([0.5, float("nan")], 1000, "float32", False),
    ([0.5, float("inf")], 1000, "float32", False),
])  # fmt: skip
def test_values_are_compared_within_the_tolerances(losses, hits, precision, is_good):
    found = {"losses": losses, "hits": hits, "users": 6040}
    result = measures.compare_values(found, EXPECTED, precision)
    assert result["is_within_tolerance"] is is_good


def test_cases_round_trip_through_the_file(tmp_path):
    cases = make_cases(is_small=False)
    write_cases(tmp_path, cases)
    assert read_cases(tmp_path) == cases
    sizes = [case.config.batch_size for case in cases]
    assert sizes == [98_304] * 3 + [1_048_576] * 3 + [98_304] * 3
    assert cases[3].shape == SyntheticShape(138_493, 26_744, 20_000_263, 2018)
    assert {case.config.precision for case in cases} == {"float32", "tf32", "bfloat16"}


def test_the_record_is_whole_after_each_measurement(tmp_path):
    record = Record(tmp_path, {"device": "test"})
    assert json.loads((tmp_path / "results.json").read_text())["measurements"] == []
    record.add("speed-1", "training", {"examples_per_s": 12_345_678.0, "step_ms": 1.5, "calls": 3})
    record.add("speed-2", "training", {"error": "RuntimeError: out of memory"})
    text = (tmp_path / "results.md").read_text()
    assert "| speed-1 | 12.35 | 1.500 |" in text and "incomplete" in text
    assert "- speed-2, training: RuntimeError: out of memory" in text
    record.finish()
    assert "incomplete" not in markdown(json.loads((tmp_path / "results.json").read_text()))


def test_a_folder_that_exists_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--small", "--without_data"]) == 1
    assert capsys.readouterr().err == (
        f"scripts/gpu_pack.sh: {tmp_path} exists already; name a new folder\n")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bare_pack(tmp_path) -> Path:
    """A pack without programs, for what ends before a program is needed."""
    pytest.importorskip("jax", reason="JAX is not installed")
    folder = tmp_path / "pack"
    folder.mkdir()
    copy_sources(folder)
    write_cases(folder, make_cases(is_small=True))
    (folder / "expected.json").write_text(json.dumps(EXPECTED))
    return folder


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    pytest.importorskip("jax", reason="JAX is not installed")
    folder = tmp_path_factory.mktemp("made") / "pack"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_pack", str(folder), "--small", "--without_data"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def command(pack: Path, out: Path, *flags: str) -> list[str]:
    # -I: only the pack and the installed packages can be imported, not this checkout.
    return [sys.executable, "-I", str(pack / "run.py"), "--platform=cpu", "--seconds=0.1",
            f"--out={out}", *flags]


@pytest.mark.slow
class TestRun:
    def test_all_is_measured_and_agrees(self, pack, tmp_path):
        done = subprocess.run(command(pack, tmp_path), capture_output=True, text=True,
                              cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        data = json.loads((tmp_path / "results.json").read_text())
        assert data["is_complete"]
        found = {(x["case"], x["measure"]): x for x in data["measurements"]}
        assert len(found) == 3 + 3 * 5 and not any("error" in x for x in data["measurements"])
        # A CPU reports no kernels.
        assert [x["measure"] for x in data["measurements"] if "skipped" in x] == ["profile"] * 3
        assert found["check-2048-float32", "check"]["loss_difference"] <= 1e-5
        assert found["speed-8192-bfloat16", "training"]["examples_per_s"] > 0

    def test_a_changed_program_is_not_run(self, pack, tmp_path):
        program = pack / "programs" / "check-2048-float32" / "evaluate.stablehlo"
        before = program.read_bytes()
        program.write_bytes(before[:-1] + b"x")
        try:
            done = subprocess.run(command(pack, tmp_path, "--minutes=0.6"), cwd=tmp_path,
                                  capture_output=True, text=True)
        finally:
            program.write_bytes(before)
        assert done.returncode == 2
        text = (tmp_path / "results.md").read_text()
        assert "check-2048-float32, start: " in text and "was changed" in text
        assert "too little time was left" in text

    def test_an_early_end_loses_nothing(self, pack, tmp_path):
        process = subprocess.Popen(command(pack, tmp_path), cwd=tmp_path, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        results = tmp_path / "results.json"
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                if results.exists() and json.loads(results.read_text())["measurements"]:
                    break
                time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        data = json.loads(results.read_text())
        assert data["measurements"] and "is_complete" not in data


def test_a_device_that_is_not_there_is_one_line(bare_pack, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(command(bare_pack, out, "--platform=abacus"), cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("run.py: --platform=abacus: ") and not out.exists()


@pytest.mark.parametrize("flags, said", [
    (["--minutes=nan"], "argument --minutes: invalid positive value: 'nan'"),
    (["--seconds=0"], "argument --seconds"),
    (["--nothing"], "unrecognized arguments: --nothing"),
    (["--out=/proc/x"], "/proc/x"),
])  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_1(bare_pack, tmp_path, flags, said):
    done = subprocess.run(command(bare_pack, tmp_path / "out", *flags), cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_earlier_results_are_kept(bare_pack, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    done = subprocess.run(command(bare_pack, tmp_path), cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 1 and "has results already" in done.stderr
    assert (tmp_path / "results.json").read_text() == "{}"


def test_a_pack_that_lacks_a_file_is_one_line(bare_pack, tmp_path):
    (bare_pack / "expected.json").unlink()
    done = subprocess.run(command(bare_pack, tmp_path / "out"), cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 1 and "expected.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_case_reads_what_it_wrote():
    case = make_cases(is_small=True)[-1]
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
