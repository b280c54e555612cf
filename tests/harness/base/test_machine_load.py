"""What else uses the processors, by the counters of the kernel."""

from __future__ import annotations

import os

import pytest

from harness.base.machine_load import LoadMeter

TICKS = os.sysconf("SC_CLK_TCK")
CPU = min(os.sched_getaffinity(0))


def write_stat(path, busy: float = 0.0, idle: float = 0.0, steal: float = 0.0):
    """Writes the seconds of one processor that this process may use."""
    user, idle, steal = (int(value * TICKS) for value in (busy, idle, steal))
    path.write_text(f"cpu  1 2 3\ncpu{CPU} {user} 0 0 {idle} 0 0 0 {steal} 0 0\nintr 5\n")
    return path


def test_time_in_other_programs_and_stolen_time_are_told_apart(tmp_path):
    stat = write_stat(tmp_path / "stat")
    meter = LoadMeter(stat)
    write_stat(stat, busy=1e6, idle=2e6, steal=1e6)
    load = meter.measure()
    assert load.steal_share == pytest.approx(0.25)
    # A million seconds in far less than one second, minus what this process used.
    assert load.other_cpus == pytest.approx(1e6 / load.seconds, rel=0.01)


def test_own_time_does_not_count(tmp_path):
    stat = write_stat(tmp_path / "stat")
    meter = LoadMeter(stat)
    sum(range(3_000_000))
    write_stat(stat, busy=0.01, idle=1)  # less than this process used
    assert meter.measure().other_cpus == 0


@pytest.mark.parametrize("text", [None, "", "cpu 1 2\n", f"cpu{CPU} 0 0 0 0 0 0 0 0 0 0\n",
                                  f"cpu{CPU} x y z\n"])
def test_what_the_system_does_not_count_is_none(tmp_path, text):
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text)
    load = LoadMeter(stat).measure()
    assert load.other_cpus is None and load.steal_share is None
    assert load.cpus >= 1 and set(load.as_json()) == set(load._fields)


def test_each_measurement_begins_where_the_last_one_ended(tmp_path):
    stat = write_stat(tmp_path / "stat")
    meter = LoadMeter(stat)
    write_stat(stat, steal=10)
    assert meter.measure().steal_share == 1
    write_stat(stat, steal=10, idle=30)
    assert meter.measure().steal_share == 0
