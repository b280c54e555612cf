"""Exported programs: what a run refuses, and that the code does not depend on the process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from reference_model.base.config import EngineConfig
from reference_model.base.errors import DataError
from reference_model.fused.programs import engine_programs
from reference_model.pjrt.program_folder import MANIFEST, ProgramFolder, export_programs
from tests.support.paths import ROOT

CONFIG = EngineConfig(20, 30, 100, 2, (8, 4), batch_size=64, eval_negatives=9)


@pytest.fixture
def folder(tmp_path):
    """An export whose code is the name of each program."""
    export_programs(tmp_path / "p", CONFIG, "cpu", engine_programs(CONFIG, "cpu"),
                    lambda program: program.name.encode(), {"source": "x"})
    return tmp_path / "p"


def refusal(folder, config=CONFIG, device="cpu") -> str:
    """Returns the message of a run that cannot use the programs."""
    with pytest.raises(DataError) as caught:
        programs = ProgramFolder(folder)
        programs.check(config, device)
        for program in engine_programs(config, device):
            programs.code(program)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_program_is_read_back(folder):
    programs = ProgramFolder(folder)
    programs.check(CONFIG, "cpu")
    found = {p.name: programs.code(p).decode() for p in engine_programs(CONFIG, "cpu")}
    assert found == {name: name for name in (
        "train_drawn", "train_precomputed", "evaluate", "sample", "redraw")}


def test_other_settings_are_refused_by_name(folder):
    message = refusal(folder, replace(CONFIG, learning_rate=0.5))
    assert "learning_rate 0.00382059, and this run has 0.5" in message


def test_a_deterministic_run_uses_the_same_programs(folder):
    ProgramFolder(folder).check(replace(CONFIG, deterministic=True), "cpu")


def test_another_device_is_refused(folder):
    assert "the programs are for cpu, and this run is on gpu" in refusal(folder, device="gpu")


def test_a_changed_byte_is_refused(folder):
    (folder / "evaluate.stablehlo").write_bytes(b"evaluatE")
    assert "the program evaluate was changed" in refusal(folder)


def test_a_file_that_a_run_does_not_read_is_verified_too(folder):
    (folder / "redraw.stablehlo").write_bytes(b"cut")
    with pytest.raises(DataError, match="the program redraw was changed"):
        ProgramFolder(folder).verify()


def test_a_missing_file_is_refused(folder):
    (folder / "sample.stablehlo").unlink()
    assert "sample.stablehlo: there is no such file" in refusal(folder)


def edited(folder, change) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_another_format_is_refused(folder):
    edited(folder, lambda manifest: manifest.update(format=99))
    assert "has format 99, not 1" in refusal(folder)


def test_a_program_that_the_manifest_lacks_is_refused(folder):
    edited(folder, lambda manifest: manifest["programs"].pop())
    assert "the program redraw is missing" in refusal(folder)


def test_other_arrays_are_refused(folder):
    edited(folder, lambda manifest: manifest["programs"][0]["inputs"].pop())
    assert "the program train_drawn has other arrays" in refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"format": 1}', "\x00", "[" * 100_000])
def test_a_damaged_manifest_is_refused(folder, text):
    (folder / MANIFEST).write_text(text)
    assert MANIFEST in refusal(folder)


def test_the_digest_is_that_of_the_manifest(folder):
    before = ProgramFolder(folder).digest
    edited(folder, lambda manifest: manifest.update(track="x"))
    assert ProgramFolder(folder).digest != before


def test_programs_are_described_without_tensorflow():
    """The modules that run exported programs import neither TensorFlow nor Keras."""
    code = ("import sys; import reference_model.fused, reference_model.pjrt.executor, "
            "reference_model.pjrt.program_folder, harness.trial.run, harness.launcher.run_set; "
            "print(sorted({'tensorflow', 'keras', 'jax'} & sys.modules.keys()))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_two_processes_lower_a_program_to_the_same_bytes():
    pytest.importorskip("tensorflow")
    code = ("import hashlib; from tests.reference_model.pjrt.test_program_folder import CONFIG\n"
            "from reference_model.fused.programs import engine_programs\n"
            "from reference_model.pjrt.lowering import lower\n"
            "print(hashlib.sha256(lower(engine_programs(CONFIG, 'cpu')[2])).hexdigest())")
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
                 for _ in range(2)]  # fmt: skip
    one, other = (process.communicate()[0] for process in processes)
    assert one == other and len(one) == 65
