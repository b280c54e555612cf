"""Compiled programs are kept between runs; they change nothing but the time before the clock."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.base import machine
from harness.config.run_config import make_config
from harness.trial.program_cache import open_cache
from harness.devices.setup import Device
from reference_model.base.config import EngineConfig
from reference_model.base.file_cache import FileCache
from tests.support.runs.harness_runs import TRACK, experiments, harness

pytest.importorskip("tensorflow")

SEED = "--seed=5"


def records(folder, name: str) -> list[dict]:
    """Returns the records of the only run of an experiment."""
    (found,) = [path for path in experiments(folder) if path.name.endswith(f"-{name}")]
    lines = (found / "result_0.txt").read_text().splitlines()
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def run(folder, name: str, *flags: str, runtime="tensorflow"):
    done = harness(folder, "--num_runs=1", "--max_epochs=2", SEED, f"--name={name}",
                   f"--runtime={runtime}", *flags)  # fmt: skip
    assert done.returncode in (0, 2), done.stdout + done.stderr
    return records(folder, name)


def values(found: list[dict], *keys: str) -> list:
    return [(r["key"], r["value"], r["metadata"].get("loss")) for r in found if r["key"] in keys]


RESULTS = ("data_digests", "eval_accuracy", "eval_ndcg", "epoch_stop", "train_samples")


@pytest.fixture(scope="module", params=["tensorflow", "pjrt"])
def cold_and_warm(request, tmp_path_factory):
    if request.param == "pjrt":
        pytest.importorskip("jax", reason="JAX is not installed: pip install '.[pjrt]'")
    folder = tmp_path_factory.mktemp(request.param)
    cache = folder / "cache"
    cold = run(folder, "cold", f"--program_cache={cache}", runtime=request.param)
    stored = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    warm = run(folder, "warm", f"--program_cache={cache}", runtime=request.param)
    return folder, request.param, cold, stored, warm


def test_cold_and_warm_runs_log_the_same_digests_and_results(cold_and_warm):
    _, _, cold, _, warm = cold_and_warm
    assert values(warm, *RESULTS) == values(cold, *RESULTS) != []


def test_the_clock_starts_after_the_programs_are_loaded(cold_and_warm):
    _, _, cold, _, warm = cold_and_warm
    for found in (cold, warm):
        keys = [record["key"] for record in found]
        assert keys.index("init_stop") < keys.index("run_start") < keys.index("epoch_start")


def test_a_warm_run_stores_nothing_and_traces_nothing(cold_and_warm):
    folder, runtime, _, stored, _ = cold_and_warm
    kept = {path: path.read_bytes() for path in (folder / "cache").rglob("*") if path.is_file()}
    assert kept == stored
    names = {path.name for path in stored}
    assert {"train_drawn.stablehlo", "evaluate.stablehlo"} <= names
    assert {path.parent.name.split("-")[0] for path in stored} == {"lowered", runtime}


def test_a_run_without_the_cache_has_the_same_results(cold_and_warm):
    folder, runtime, cold, _, _ = cold_and_warm
    if runtime == "pjrt":
        pytest.skip("one runtime is enough: both import TensorFlow here")
    off = run(folder, "off", "--program_cache=off", runtime=runtime)
    assert values(off, *RESULTS) == values(cold, *RESULTS)


def test_a_damaged_file_is_made_again(cold_and_warm):
    folder, runtime, cold, stored, _ = cold_and_warm
    if runtime == "tensorflow":
        pytest.skip("one runtime is enough: both import TensorFlow here")
    damaged = folder / "damaged"
    shutil.copytree(folder / "cache", damaged)
    for path in damaged.rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    found = run(folder, "damaged", f"--program_cache={damaged}", runtime=runtime)
    assert values(found, *RESULTS) == values(cold, *RESULTS)
    files = FileCache(damaged, 1 << 30)
    for path in stored:
        if path.suffix == ".stablehlo":
            assert files.read(path.parent.name, path.name), f"{path.name} was not made again"


def test_another_dataset_of_the_same_sizes_uses_the_same_files(cold_and_warm, tmp_path):
    """So the files contain nothing of a dataset."""
    folder, runtime, cold, stored, _ = cold_and_warm
    sizes = ("dataset_num_users", "dataset_num_items", "dataset_num_positives")
    track = tmp_path / "other.yaml"
    track.write_text(TRACK.read_text().replace("seed: 1}", "seed: 2}"))
    other = run(tmp_path, "other", f"--track={track}", f"--program_cache={folder / 'cache'}",
                runtime=runtime)  # fmt: skip
    assert values(other, *sizes) == values(cold, *sizes) != []
    assert values(other, "dataset_digest") != values(cold, "dataset_digest")
    kept = {path: path.read_bytes() for path in (folder / "cache").rglob("*") if path.is_file()}
    assert kept == stored


SETTINGS = EngineConfig(10, 20, 50, mf_dim=4, mlp_layers=(8, 4))
CPU = Device("cpu", "a processor", 1)


def groups(tmp_path, settings=SETTINGS, device=CPU, exported=None, **flags):
    config = make_config({"program_cache": str(tmp_path), **flags})
    return open_cache(config, settings, device, None, exported).groups


def test_the_same_settings_have_the_same_programs(tmp_path):
    assert groups(tmp_path) == groups(tmp_path) == groups(tmp_path, results_dir=str(tmp_path))


@pytest.mark.parametrize("other", [
    {"settings": replace(SETTINGS, learning_rate=0.5)},
    {"settings": replace(SETTINGS, precision="bfloat16")},
    {"settings": replace(SETTINGS, num_items=21)},
    {"settings": replace(SETTINGS, deterministic=True)},
    {"exported": SimpleNamespace(digest="of other programs")},
])
def test_other_settings_have_other_programs(tmp_path, other):
    assert not set(groups(tmp_path)) & set(groups(tmp_path, **other))


@pytest.mark.parametrize("name", ["cpu_model", "cpu_features", "usable_cpus"])
def test_another_processor_has_other_compiled_programs(tmp_path, monkeypatch, name):
    here = groups(tmp_path)
    monkeypatch.setattr(machine, name, lambda: "other")
    lowered, compiled = groups(tmp_path)
    assert lowered == here[0] and compiled != here[1]


@pytest.mark.parametrize("variable, differs", [
    ("XLA_FLAGS", True), ("OMP_NUM_THREADS", True), ("TF_CPP_MIN_LOG_LEVEL", False)])
def test_variables_that_affect_the_compiler_count(tmp_path, monkeypatch, variable, differs):
    monkeypatch.delenv(variable, raising=False)
    here = groups(tmp_path)
    monkeypatch.setenv(variable, "3")
    assert (groups(tmp_path) != here) is differs


def test_another_version_of_a_library_has_other_programs(tmp_path, monkeypatch):
    here = groups(tmp_path)
    monkeypatch.setattr(machine, "versions", lambda: {"tensorflow": "0.1"})
    assert not set(groups(tmp_path)) & set(here)


@pytest.mark.parametrize("device, engine", [
    (Device("gpu", "a GPU", 1), "fused"), (Device("cpu", "a CPU", 2, strategy=object()), "fused"),
    (CPU, "reference")])
def test_other_engines_and_devices_have_no_lowered_programs(tmp_path, device, engine):
    assert open_cache(make_config({"engine": engine}), SETTINGS, device) is None


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = harness(tmp_path, f"--program_cache={tmp_path / 'file'}")
    assert done.returncode == 1
    assert done.stderr == (f"neumf-bench: --program_cache={tmp_path / 'file'}: {tmp_path / 'file'} "
                           "is not a folder\n")
