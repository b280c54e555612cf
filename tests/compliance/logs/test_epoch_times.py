"""The seconds of a run's epochs, and how much they vary."""

from __future__ import annotations

import pytest

from compliance.logs.dialects.event import Event
from compliance.logs.epoch_times import (
    MAX_EPOCHS,
    EpochTimes,
    epoch_variation,
    median_epoch,
    run_delays,
)

NAN = float("nan")


def event(key: str, time: float) -> Event:
    return Event(1, time, None, key, None, {})


def seconds(*records: tuple[str, float], ticks_per_second: int = 1000) -> list[float]:
    times = EpochTimes(ticks_per_second)
    for key, time in records:
        times.observe(event(key, time))
    return times.seconds


def test_an_epoch_lasts_from_its_start_to_the_end_of_its_evaluation():
    assert seconds(("run_start", 0), ("epoch_start", 100), ("epoch_stop", 1100),
                   ("eval_stop", 1600), ("epoch_start", 1700), ("epoch_stop", 2700),
                   ("eval_stop", 3200)) == [1.5, 1.5]


def test_v05_logs_begin_an_epoch_with_train_epoch():
    assert seconds(("train_epoch", 0), ("eval_stop", 5), ("train_epoch", 6), ("eval_stop", 12),
                   ticks_per_second=1) == [5, 6]


def test_epochs_without_evaluation_are_left_out_unless_none_is_evaluated():
    trained = [("epoch_start", 0), ("epoch_stop", 1000), ("epoch_start", 1000)]
    assert seconds(*trained, ("epoch_stop", 2000)) == [1, 1]
    assert seconds(*trained, ("epoch_stop", 2000), ("eval_stop", 2500)) == [1.5]


def test_epochs_before_the_run_and_records_without_a_time_do_not_count():
    assert seconds(("epoch_start", 0), ("eval_stop", 9000), ("run_start", 9000),
                   ("epoch_start", NAN), ("eval_stop", 9500), ("epoch_start", 9500),
                   ("eval_stop", NAN), ("eval_stop", 9600)) == [0.1]


def test_several_hosts_may_log_the_same_epoch():
    assert seconds(("epoch_start", 0), ("epoch_start", 10), ("eval_stop", 1010),
                   ("eval_stop", 1020)) == [1]


def test_memory_does_not_grow_with_the_log():
    records = [(key, n) for n in range(MAX_EPOCHS + 5) for key in ("epoch_start", "eval_stop")]
    assert len(seconds(*records)) == MAX_EPOCHS


def test_the_first_epoch_is_left_out():
    found = epoch_variation([9, 1, 1, 1])
    assert (found.epochs, found.range, found.excess) == (3, 0, 0)


def test_the_excess_compares_with_the_fastest_quarter():
    found = epoch_variation([1, 1, 1, 2, 2, 2, 2, 2, 2])
    assert found.range == 1 and found.pace_s == 1 and found.excess == pytest.approx(0.75)


@pytest.mark.parametrize("times", [[], [1, 1, 2], [1, 0, 1, 1], [1, -1, 1, 1],
                                   [1, 1, 1, float("inf")]])
def test_nothing_is_said_about_few_or_impossible_epochs(times):
    assert epoch_variation(times) is None and median_epoch(times) is None


def test_runs_are_compared_with_the_fastest_quarter_of_them():
    assert run_delays({0: 1.0, 1: 1.0, 3: 2.5}) == {0: 0, 1: 0, 3: 1.5}
    assert run_delays({}) == {}
