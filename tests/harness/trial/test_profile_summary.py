"""The summary of a profile: self time by operator."""

from __future__ import annotations

import pytest

from harness.trial.profile_summary import OperatorEvent, format_summary, summarize, sum_up


def test_an_operator_has_the_time_that_no_operator_inside_it_has():
    events = [OperatorEvent("while", "train", 0, 100), OperatorEvent("dot", "train", 10, 30),
              OperatorEvent("dot", "train", 50, 20), OperatorEvent("copy", "train", 52, 5),
              OperatorEvent("dot", "evaluate", 100, 7)]
    found = sum_up([events[::-1], []], 1e-3)
    assert [(o.operator, o.program, o.calls, round(o.seconds, 6)) for o in found] == [
        ("while", "train", 1, 0.05), ("dot", "train", 2, 0.045), ("dot", "evaluate", 1, 0.007),
        ("copy", "train", 1, 0.005)]


def test_threads_are_added_up_and_the_rest_is_one_row():
    lines = [[OperatorEvent(f"op.{i}", "train", i, 1) for i in range(14)] for _ in range(2)]
    rows = format_summary(sum_up(lines, 1.0))
    assert len(rows) == 12 and rows[1].split() == ["op.0", "2.000", "7.1%", "2", "train"]
    assert rows[-1].split() == ["4", "others", "8.000", "28.6%", "8"]


def test_a_profile_without_operators_says_so(tmp_path):
    assert format_summary([]) == ["the profile contains no XLA operator"]
    with pytest.raises(ValueError):
        summarize(tmp_path, "tensorflow")
