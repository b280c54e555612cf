"""The exact checker output for the ten most common mistakes.

`python -m tests.project.test_messages` rewrites the golden files; review them before a commit.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest

from compliance.__main__ import main
from tests.support.paths import DATA

GOLDEN = DATA / "messages"
# Files or folders of tests/data/bad.
COMMON = ("no_run_stop.txt", "truncated_last_line.txt", "accuracy_nan.txt", "an_epoch_removed.txt",
          "last_accuracy_below_target.txt", "target_edited_down.txt", "not_every_user.txt",
          "two_run_start.txt", "throughput_ten_times.txt", "seed_reused")


def output(name: str) -> str:
    """Returns the output of `check NAME`, run in the folder of the bad logs."""
    out, before = io.StringIO(), os.getcwd()
    os.chdir(DATA / "bad")
    try:
        with contextlib.redirect_stdout(out):
            main(["check", name])
    finally:
        os.chdir(before)
    return out.getvalue()


def golden(name: str) -> Path:
    return GOLDEN / f"{Path(name).stem}.txt"


@pytest.mark.parametrize("name", COMMON)
def test_the_output_is_as_written_down(name):
    assert output(name) == golden(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMON)
def test_the_output_names_rule_place_and_fix_and_fits_the_screen(name):
    lines = output(name).splitlines()
    assert all(len(line) <= 80 for line in lines[3:])
    told = [i for i, line in enumerate(lines) if "  NCF-" in line
            and not line.startswith("warning: ")]
    assert told and all(any(x.strip().startswith("fix: ") for x in lines[i + 1:i + 5]) for i in told)
    assert lines[-1].split(":")[0] in ("not compliant", "unreadable")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in COMMON:
        golden(each).write_text(output(each), encoding="utf-8")
