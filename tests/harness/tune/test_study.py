"""The database of a tuning."""

from __future__ import annotations

import dataclasses

from harness.tune.study import TuningFolder
from tests.harness.tune.test_report import SEARCH, SPACE


def test_trials_are_read_as_they_were_written(tmp_path):
    folder = TuningFolder(tmp_path, {})
    for record in SEARCH:
        folder.add(record, SPACE, 1.0)
    assert TuningFolder(tmp_path, {}).records() == SEARCH


def test_the_batch_sizes_that_fit_may_change_between_calls(tmp_path):
    folder = TuningFolder(tmp_path, {})
    folder.add(SEARCH[0], SPACE, 1.0)
    choices = {**SPACE.choices, "batch_size": (4096, 2048)}
    folder.add(SEARCH[1], dataclasses.replace(SPACE, choices=choices), 1.0)
    assert len(folder.records()) == 2
