"""The doctor's findings about processors, memory, disturbances and data."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base import machine
from harness.base.machine_load import MachineLoad
from harness.base.page_cache import can_clear
from harness.config.run_config import make_config
from harness.doctor import disturbances
from harness.doctor.data import examine_data
from harness.doctor.disturbances import SystemState, examine_disturbances, read_state
from harness.doctor.findings import NOT_FIT, NOTE, OK, UNKNOWN, Finding, format_finding
from harness.doctor.gpu_users import judge_gpus
from harness.doctor.resources import examine_resources
from harness.doctor.steadiness import measure_steadiness, spread, steadiness_finding
from harness.base.system_files import usable_cpu_folders

IDLE = MachineLoad(1.0, 2, 0.1, 0.0, 0.0)
CPU = f"sys/devices/system/cpu/cpu{min(os.sched_getaffinity(0))}"
NOW = SystemState(0.0, {}, None)


@pytest.fixture()
def config(tmp_path):
    return make_config({"data_dir": str(tmp_path / "data"), "results_dir": str(tmp_path / "r")})


def write(root: Path, files: dict[str, str]) -> Path:
    """Writes files of /proc and /sys below a folder."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def disturbance(config, name, root=Path("/nowhere"), load=IDLE, before=NOW) -> Finding:
    return next(f for f in examine_disturbances(config, load, before, root) if f.name == name)


def resource(config, name, root=Path("/nowhere")) -> Finding | None:
    return next((f for f in examine_resources(config, root) if f.name == name), None)


def test_a_system_without_its_files_is_not_known_and_nothing_fails(config):
    states = {f.name: f.state for f in examine_disturbances(
        config, MachineLoad(1.0, 2, None, None, None), NOW, Path("/nowhere"))}
    assert {name for name in ("load", "steal", "governor", "turbo", "swap")
            if states[name] == UNKNOWN} == {"load", "steal", "governor", "turbo", "swap"}
    assert resource(config, "memory").state == UNKNOWN
    assert resource(config, "caches").state == NOTE


@pytest.mark.parametrize("content", ["", "\n", "garbage", "\x00\xff", "9" * 400, "-1", "max"])
def test_files_of_any_content_do_not_fail(config, tmp_path, content):
    names = ["proc/meminfo", "proc/vmstat", f"{CPU}/cpufreq/scaling_governor",
             "sys/devices/system/cpu/intel_pstate/no_turbo", "sys/fs/cgroup/cpu.max",
             "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "proc/1/stat"]
    root = write(tmp_path, dict.fromkeys(names, content))
    assert examine_disturbances(config, IDLE, read_state(root), root)
    assert examine_resources(config, root)


@pytest.mark.parametrize("others, state", [(0.0, OK), (0.1, NOTE), (0.5, NOT_FIT)])
def test_other_programs(config, others, state):
    finding = disturbance(config, "load", load=IDLE._replace(other_cpus=others))
    assert finding.state == state and bool(finding.fix) == (state != OK)


@pytest.mark.parametrize("steal, state", [(0.0, OK), (0.02, NOTE), (0.2, NOT_FIT)])
def test_steal(config, steal, state):
    assert disturbance(config, "steal", load=IDLE._replace(steal_share=steal)).state == state


def test_the_busiest_programs_are_named(config, tmp_path):
    def stat(seconds: int) -> dict[str, str]:
        ticks = seconds * os.sysconf("SC_CLK_TCK")
        fields = f"S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0"
        return {"proc/71/stat": f"71 (a (b) c) {fields}", "proc/72/stat": "72 (idle) S 1",
                "proc/self/stat": "x"}

    before = read_state(write(tmp_path, stat(0)))
    write(tmp_path, stat(3600))
    finding = disturbance(config, "load", tmp_path, IDLE._replace(other_cpus=1.0), before)
    assert finding.fix.startswith("stop them: a (b) c (process 71, ") and "idle" not in finding.fix


@pytest.mark.parametrize("governor, state", [("performance\n", OK), ("powersave\n", NOTE)])
def test_governor(config, tmp_path, governor, state):
    root = write(tmp_path, {f"{CPU}/cpufreq/scaling_governor": governor})
    assert usable_cpu_folders(root)
    assert disturbance(config, "governor", root).state == state


@pytest.mark.parametrize("file, value, state", [
    ("intel_pstate/no_turbo", "0", NOTE), ("intel_pstate/no_turbo", "1", OK),
    ("cpufreq/boost", "1", NOTE), ("cpufreq/boost", "0", OK)])
def test_turbo(config, tmp_path, file, value, state):
    root = write(tmp_path, {f"sys/devices/system/cpu/{file}": value})
    finding = disturbance(config, "turbo", root)
    assert finding.state == state
    if state == NOTE:
        off = "1" if value == "0" else "0"
        assert f"echo {off} | sudo tee /sys/devices/system/cpu/{file}" in finding.fix


@pytest.mark.parametrize("free, swapped, state", [(1000, 5, OK), (900, 5, NOTE), (900, 6, NOT_FIT)])
def test_swap(config, tmp_path, free, swapped, state):
    root = write(tmp_path, {"proc/meminfo": f"SwapTotal: 1000 kB\nSwapFree: {free} kB\n",
                            "proc/vmstat": "pswpin 2\npswpout 3\n"})
    before = read_state(root)
    write(root, {"proc/vmstat": f"pswpin 2\npswpout {swapped - 2}\n"})
    assert disturbance(config, "swap", root, before=before).state == state


@pytest.mark.parametrize("source, state", [("tsc", OK), ("hpet", NOTE), ("unknown", UNKNOWN)])
def test_clock(config, monkeypatch, source, state):
    monkeypatch.setattr(disturbances, "clock_source", lambda: source)
    assert disturbance(config, "clock").state == state


@pytest.mark.parametrize("dirty, state", [(False, OK), (True, NOTE), (None, UNKNOWN)])
def test_checkout(config, monkeypatch, dirty, state):
    monkeypatch.setattr(machine, "source_state", lambda _: {"commit": "c" * 40, "dirty": dirty})
    assert disturbance(config, "checkout").state == state


@pytest.mark.parametrize("files, has_finding", [
    ({"sys/fs/cgroup/cpu.max": "50000 100000"}, True),
    ({"sys/fs/cgroup/cpu.max": "max 100000"}, False),
    ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, True),
    ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, False)])
def test_a_container_with_less_time_than_cpus(config, tmp_path, files, has_finding):
    found = resource(config, "CPU quota", write(tmp_path, files))
    assert (found is not None) == has_finding
    assert found is None or found.state == NOT_FIT


@pytest.mark.parametrize("files, state", [
    ({"proc/meminfo": "MemAvailable: 8000000 kB\n"}, OK),
    ({"proc/meminfo": "MemAvailable: 80000 kB\n"}, NOT_FIT),
    ({"proc/meminfo": "MemAvailable: 8000000 kB\n", "sys/fs/cgroup/memory.max": "500000000",
      "sys/fs/cgroup/memory.current": "490000000"}, NOT_FIT),
    ({"proc/meminfo": "MemAvailable: 8000000 kB\n", "sys/fs/cgroup/memory.max": "max",
      "sys/fs/cgroup/memory.current": "490000000"}, OK)])
def test_memory(config, tmp_path, files, state):
    assert resource(config, "memory", write(tmp_path, files)).state == state


def test_more_threads_than_cpus(config):
    assert resource(replace(config, intra_op_threads=4096), "threads").state == NOTE


def test_caches_that_must_be_cleared_and_cannot(config, tmp_path):
    assert resource(replace(config, clear_caches="require"), "caches").state == NOT_FIT
    assert not can_clear(tmp_path / "nothing").done
    root = write(tmp_path, {"proc/sys/vm/drop_caches": ""})
    assert resource(config, "caches", root).state == OK
    assert (root / "proc/sys/vm/drop_caches").read_text() == ""


@pytest.mark.parametrize("table, programs, state", [
    ("0, 0, 12", "", OK), ("0, 0, 12\n1, 0, 12", None, OK),
    ("0, 0, 9000", "123, /usr/bin/python, x", NOT_FIT), ("0, 97, 9000", None, NOT_FIT),
    ("0, [N/A], [N/A]", None, UNKNOWN), ("garbage", None, UNKNOWN)])
def test_gpu_users(table, programs, state):
    assert judge_gpus(table, programs).state == state


def test_data(config, tmp_path):
    assert examine_data(replace(config, synthetic_batches=True)).state == OK
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "ml-100k.csv").write_text("1,2,3,4\n")
    assert str(folder) in examine_data(config).text
    paper = make_config({"track": "ml-1m-paper", "data_dir": str(tmp_path / "data"),
                         "results_dir": str(tmp_path / "r")})
    assert examine_data(paper).state == NOT_FIT


def test_the_measurement_takes_about_its_seconds():
    found = measure_steadiness(seconds=0.05)
    assert set(found.spreads) == {"product", "copy", "sampling"}
    assert all(value >= 0 for value in found.spreads.values())


@pytest.mark.parametrize("times, expected", [
    ([1.0] * 20, 0), ([1.0] * 19 + [50.0], 0), ([1.0] * 10 + [2.0] * 10, 2 / 3)])
def test_the_spread_is_that_of_the_middle_80_percent(times, expected):
    assert spread(times) == pytest.approx(expected)


@pytest.mark.parametrize("worst, state", [(0.02, OK), (0.2, NOTE), (0.9, NOT_FIT)])
def test_steadiness(worst, state):
    assert steadiness_finding({"product": 0.01, "copy": worst}).state == state


def test_a_finding_fits_a_terminal_and_prints_no_control_characters():
    text = format_finding(Finding(NOTE, "load", "word " * 40 + "\x1b[31m", "do " * 60))
    assert all(len(line) <= 80 for line in text.splitlines()) and "\x1b" not in text
    assert text.count("fix: ") == 1
