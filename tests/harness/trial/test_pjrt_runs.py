"""Whole runs by PJRT, from exported programs, with audit; on the tiny track."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.runs.harness_runs import TRACK, environment, harness, result_log

pytest.importorskip("tensorflow")
pytest.importorskip("jax", reason="JAX is not installed: pip install '.[pjrt]'")


def path_without(folder, *packages: str) -> str:
    """Returns a PYTHONPATH on which packages cannot be imported."""
    folder.mkdir()
    for name in packages:
        (folder / f"{name}.py").write_text("raise ImportError('not in this environment')")
    return f"{folder}:{ROOT}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Exports the programs without JAX, then runs them without TensorFlow."""
    folder = tmp_path_factory.mktemp("pjrt")
    no_jax = path_without(folder / "no_jax", "jax")
    exported = harness(folder, f"--export={folder / 'programs'}", PYTHONPATH=no_jax)
    assert exported.returncode == 0, exported.stderr
    no_tensorflow = path_without(folder / "hidden", "tensorflow", "keras")
    flags = [f"--programs={folder / 'programs'}", "--num_runs=1", "--keep_checkpoint"]
    done = harness(folder, *flags, PYTHONPATH=no_tensorflow)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, exported, done


def records(log) -> dict[str, dict]:
    """Returns the last record of each key."""
    lines = log.read_text().splitlines()
    found = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
    return {record["key"]: record for record in found}


def test_the_log_names_runtime_client_and_programs(run):
    folder, exported, _ = run
    record = records(result_log(folder))["runtime"]
    assert record["value"] == "pjrt" and record["metadata"]["client"].startswith("cpu")
    assert record["metadata"]["programs"][:16] in exported.stdout


def test_the_log_passes_and_has_digests(run):
    folder, *_ = run
    check = [sys.executable, "-m", "compliance", "check", str(result_log(folder))]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert set(records(result_log(folder))["data_digests"]["value"]) == {
        "first_batch", "first_epoch", "evaluation_lists"}


def test_code_that_cannot_be_compiled_is_one_line(run, tmp_path):
    """The digest is that of the manifest, but the code is no program."""
    folder, *_ = run
    shutil.copytree(folder / "programs", tmp_path / "programs")
    (tmp_path / "programs" / "evaluate.stablehlo").write_bytes(b"no program")
    path = tmp_path / "programs" / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["programs"]:
        if entry["name"] == "evaluate":
            entry["sha256"] = hashlib.sha256(b"no program").hexdigest()
    path.write_text(json.dumps(manifest))
    done = harness(tmp_path, f"--programs={path.parent}", "--num_runs=1", "--program_cache=off")
    assert done.returncode == 1
    assert "PJRT cannot compile the program evaluate: " in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def audit(folder, *flags, hidden=False) -> subprocess.CompletedProcess:
    path = f"{folder / 'hidden'}:{ROOT}" if hidden else str(ROOT)
    return subprocess.run(
        [sys.executable, "-m", "harness", f"--audit={result_log(folder)}", f"--track={TRACK}",
         f"--data_dir={folder / 'data'}", *flags],
        cwd=ROOT, capture_output=True, text=True, env=environment(PYTHONPATH=path))  # fmt: skip


def test_the_audit_confirms_it_without_tensorflow(run):
    folder, *_ = run
    done = audit(folder, f"--programs={folder / 'programs'}", "--replay", hidden=True)
    assert done.returncode == 0 and "CONFIRMED" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_audit_confirms_it_by_tensorflow(run):
    folder, *_ = run
    done = audit(folder, "--runtime=tensorflow", "--replay")
    assert done.returncode == 0 and "CONFIRMED" in done.stdout, done.stdout + done.stderr


def test_programs_for_other_settings_are_refused(run):
    folder, *_ = run
    done = harness(folder, f"--programs={folder / 'programs'}", "--batch_size=64")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "batch_size" in line and "export them with" in line


def test_programs_that_were_changed_are_refused(run, tmp_path):
    folder, *_ = run
    programs = tmp_path / "programs"
    programs.mkdir()
    for file in (folder / "programs").iterdir():
        data = bytearray(file.read_bytes())
        if file.name == "evaluate.stablehlo":
            data[-1] ^= 1
        (programs / file.name).write_bytes(data)
    done = harness(folder, f"--programs={programs}", "--num_runs=1")
    assert done.returncode == 1 and "the program evaluate was changed" in done.stderr
