"""Stage times agree with values computed by hand and add up in real logs."""

from __future__ import annotations

import pytest

from compliance.logs.stage_times import (
    covered_seconds,
    intersect_intervals,
    merge_intervals,
    stage_times,
)
from compliance.logs.timeline import Span, Timeline, read_timeline
from tests.support.logs.log_builder import good_log, write_log
from tests.support.logs.run_sets import without_gaps


def line(*spans):
    result = Timeline("x", "mllog")
    result.spans = [Span(*s) for s in spans]
    return result


def test_intervals_are_merged_measured_and_intersected():
    assert merge_intervals([(3, 4), (0, 2), (1, 2.5), (5, 5)]) == [(0, 2.5), (3, 4)]
    assert covered_seconds([(0, 2), (1, 3)]) == 3
    assert intersect_intervals([(0, 2), (3, 6)], [(1, 4), (5, 9)]) == [(1, 2), (3, 4), (5, 6)]


def test_stage_times_of_a_run_computed_by_hand():
    """1 s of loading, two overlapping draws, then two epochs.

    The second epoch waits 0.5 s for its negatives; the draw during epoch 1 is overlapped.
    """
    stages = stage_times(line(
        ("run", None, 10.0, 20.0), ("eval_neg_gen", None, 11.0, 12.5),
        ("train_neg_gen", 1, 11.5, 13.0), ("epoch", 1, 13.0, 15.0), ("eval", 1, 15.0, 16.0),
        ("train_neg_gen", 2, 14.5, 15.5), ("epoch", 2, 16.0, 19.0),
        ("train_neg_gen", 2, 16.0, 16.5), ("eval", 2, 19.0, 20.0)))
    assert (stages.data, stages.sampling, stages.training, stages.evaluation) == (1, 2.5, 4.5, 2)
    assert stages.other == 0 and stages.add_up and stages.overlapped == 1.0
    assert stages.warning() is None


@pytest.mark.parametrize("gap, adds_up", [(0.004, True), (0.006, True), (0.02, False)])
def test_time_in_no_stage_is_a_warning_beyond_a_thousandth(gap, adds_up):
    """In 10 s, 4 ms belong to the stage that ended, 6 ms are within 0.1%, and 20 ms are not."""
    stages = stage_times(line(("run", None, 0.0, 10.0), ("epoch", 1, 0.0, 5.0),
                              ("eval", 1, 5.0 + gap, 10.0)))
    assert stages.add_up is adds_up
    assert (stages.warning() is None) is adds_up
    if not adds_up:
        assert "0.20%" in stages.warning()


def test_stages_that_overlap_are_a_warning():
    stages = stage_times(line(("run", None, 0.0, 10.0), ("epoch", 1, 0.0, 6.0),
                              ("eval", 1, 5.0, 10.0)))
    assert stages.other == -1 and "overlap" in stages.warning()


def test_a_log_without_an_end_has_no_stages(tmp_path):
    records = [r for r in good_log() if r["key"] != "run_stop"]
    found = read_timeline(write_log(tmp_path / "a.txt", records))
    assert found.run is None and stage_times(found) is None


def test_the_stage_times_of_a_generated_log_add_up(tmp_path):
    found = read_timeline(write_log(tmp_path / "a.txt", without_gaps(good_log(epochs=4))))
    stages = stage_times(found)
    assert stages.add_up and len(found.hit_rates) == 4
    assert stages.training == pytest.approx(4.0, abs=0.05)
    assert len(found.spans_named("epoch")) == 4 and found.batch_size == 4096
    loose = stage_times(read_timeline(write_log(tmp_path / "b.txt", good_log(epochs=4))))
    assert not loose.add_up and loose.other > 0


def test_an_interval_logged_by_two_hosts_counts_once(tmp_path):
    records = good_log(epochs=2)
    doubled = [r for record in records for r in (record, dict(record))]
    found = read_timeline(write_log(tmp_path / "a.txt", doubled))
    assert len(found.spans_named("epoch")) == 2
    once = read_timeline(write_log(tmp_path / "b.txt", records))
    assert found.spans == once.spans


def test_epochs_to_the_target_are_counted_unrounded():
    found = Timeline("x", hit_rates=[(1, 0.5), (2, 0.6349996), (3, 0.63500684), (4, 0.6)])
    assert found.epochs_to(0.635) == 3 and found.epochs_to(0.7) is None
    assert found.epochs_to(None) is None


@pytest.mark.parametrize("entry", ["nvidia_dgx1", "intel_skx8180"])
def test_the_stage_times_of_real_v05_runs_add_up(shared_dir, entry):
    for i in range(0, 100, 20):
        stages = stage_times(read_timeline(shared_dir / "logs_v05" / entry / f"result_{i}.txt"))
        assert stages.add_up and stages.training > stages.evaluation > 0
        assert (stages.sampling is None) == (entry == "nvidia_dgx1")


def test_an_accuracy_without_a_time_still_counts_as_an_epoch(tmp_path):
    records = good_log(epochs=3)
    next(r for r in records if r["key"] == "eval_accuracy")["time_ms"] = None
    found = read_timeline(write_log(tmp_path / "a.txt", records))
    assert len(found.hit_rates) == 3 and len(found.spans_named("epoch")) == 3
