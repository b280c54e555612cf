"""The description of the machine, and its name."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from mlperf_logging.system_desc_checker import system_desc_checker

from harness.base import machine
from harness.base.output_files import write_json
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def description():
    return machine.describe("sys", "us", "closed")


def test_the_description_passes_mlperfs_checker(description, tmp_path):
    path = tmp_path / "sys.json"
    write_json(path, description)
    valid, *_ = system_desc_checker.check_system_desc(str(path), "training", "5.0.0")
    assert valid


def test_the_description_names_machine_and_software(description):
    assert int(description["host_processor_core_count"]) >= 1
    assert description["host_memory_capacity"].endswith("GiB")
    assert description["versions"]["numpy"]
    assert set(description["source"]) == {"commit", "dirty"}


def test_the_description_is_strict_json(description):
    json.dumps(description, allow_nan=False)


def test_the_default_name_is_a_folder_name():
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,47}", machine.default_system_name("cpu"))


def test_environment_has_speed_variables_and_no_secrets(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_x=1")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("TF_VAR_password", "secret")
    monkeypatch.setenv("AWS_SECRET", "secret")
    found = machine.environment()
    assert found["XLA_FLAGS"] == "--xla_x=1" and found["OMP_NUM_THREADS"] == "2"
    assert "secret" not in found.values()


class TestSourceState:
    @pytest.fixture()
    def checkout(self, tmp_path, monkeypatch):
        def git(*words: str) -> None:
            names = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
            subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

        git("init", "-q")
        (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
        (tmp_path / "code.py").write_text("1\n")
        git("add", ".")
        git("commit", "-qm", "first")
        monkeypatch.setattr(machine, "PROJECT_ROOT", tmp_path.resolve())
        return tmp_path

    def test_a_fresh_checkout_is_clean(self, checkout):
        state = machine.source_state()
        assert len(state["commit"]) == 40 and state["dirty"] is False

    def test_generated_results_do_not_make_the_tree_dirty(self, checkout):
        for folder in ("results", "elsewhere"):
            (checkout / folder).mkdir()
            (checkout / folder / "result_0.txt").write_text("log")
        assert machine.source_state(checkout / "elsewhere")["dirty"] is False
        assert machine.source_state()["dirty"] is True

    def test_a_changed_file_makes_the_tree_dirty(self, checkout):
        (checkout / "code.py").write_text("2\n")
        assert machine.source_state()["dirty"] is True
