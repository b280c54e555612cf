"""The description of the machine, its name, and the clearing of caches."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from mlperf_logging.system_desc_checker import system_desc_checker

from harness.base import machine, page_cache
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def description():
    return machine.describe("sys", "us", "closed")


def test_it_has_the_fields_of_mlperfs_system_description(description, tmp_path):
    path = tmp_path / "sys.json"
    machine.write_json(path, description)
    valid, *_ = system_desc_checker.check_system_desc(str(path), "training", "5.0.0")
    assert valid


def test_it_names_the_machine_and_the_software(description):
    assert int(description["host_processor_core_count"]) >= 1
    assert description["host_memory_capacity"].endswith("GiB")
    assert description["versions"]["numpy"]
    assert set(description["source"]) == {"commit", "dirty"}


def test_it_is_strict_json(description):
    json.dumps(description, allow_nan=False)


def test_the_default_name_is_a_folder_name():
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,47}", machine.default_name("cpu"))


def test_environment_keeps_what_changes_speed_and_no_secrets(monkeypatch):
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

    def test_generated_results_are_no_change(self, checkout):
        for folder in ("results", "elsewhere"):
            (checkout / folder).mkdir()
            (checkout / folder / "result_0.txt").write_text("log")
        assert machine.source_state(checkout / "elsewhere")["dirty"] is False
        assert machine.source_state()["dirty"] is True

    def test_a_changed_file_is_a_change(self, checkout):
        (checkout / "code.py").write_text("2\n")
        assert machine.source_state()["dirty"] is True


class TestFiles:
    def test_a_file_is_replaced_whole(self, tmp_path):
        path = tmp_path / "deep" / "file.json"
        machine.write_json(path, {"a": 1})
        machine.write_json(path, {"a": 2})
        assert json.loads(path.read_text()) == {"a": 2}
        assert [p.name for p in path.parent.iterdir()] == ["file.json"]

    def test_what_json_cannot_say_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "file.json"
        machine.write_json(path, {"a": 1})
        with pytest.raises(ValueError):
            machine.write_json(path, {"a": float("nan")})
        assert json.loads(path.read_text()) == {"a": 1}


class TestCaches:
    def test_clearing_writes_3(self, tmp_path):
        target = tmp_path / "drop_caches"
        target.write_text("")
        assert page_cache.clear("auto", target) == (True, "drop_caches")
        assert target.read_text() == "3\n"

    def test_skip_is_honest(self):
        cleared = page_cache.clear("skip")
        assert cleared.done is False and "skip" in cleared.reason

    def test_a_refusal_is_honest(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))  # no sudo
        cleared = page_cache.clear("auto", tmp_path)  # a folder cannot be written to
        assert cleared.done is False and "directory" in cleared.reason

    def test_a_system_without_the_switch_is_honest(self, tmp_path):
        assert page_cache.clear("auto", tmp_path / "none").done is False
