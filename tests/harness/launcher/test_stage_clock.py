"""The clock of the stages before the first epoch."""

from __future__ import annotations

import io
import json
import time

import pytest

from harness.base.console import Console
from harness.launcher.stage_clock import StageClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_terminal_shows_the_elapsed_seconds(terminal, tmp_path):
    clock = StageClock(Console(terminal), tmp_path, "ml-100k")
    clock.begin("compiling", "run 1/5 seed 7: compiling", lasting=False)
    time.sleep(1.3)
    clock.end()
    assert "run 1/5 seed 7: compiling (1 s)" in terminal.getvalue()


def test_nothing_is_shown_after_the_end(terminal, tmp_path):
    clock = StageClock(Console(terminal), tmp_path, "ml-100k")
    clock.begin("compiling", "compiling", lasting=False)
    clock.end()
    shown = terminal.getvalue()
    time.sleep(1.3)
    assert terminal.getvalue() == shown


def test_the_next_run_shows_the_duration_of_the_last(tmp_path):
    (tmp_path / "stage_seconds.json").write_text('{"ml-100k": {"compiling": 8.6, "loading": 0.1}}')
    out = io.StringIO()
    clock = StageClock(Console(out), tmp_path, "ml-100k")
    clock.begin("compiling", "run 1/5 seed 7: compiling", lasting=True)
    clock.begin("loading", "run 1/5 seed 7: loading", lasting=True)
    clock.end()
    assert out.getvalue() == ("run 1/5 seed 7: compiling, usually 9 s\n"
                              "run 1/5 seed 7: loading\n")


def test_other_settings_have_durations_of_their_own(tmp_path):
    file = tmp_path / "stage_seconds.json"
    file.write_text('{"ml-100k": {"compiling": 8.6}}')
    clock = StageClock(Console(io.StringIO()), tmp_path, "ml-1m")
    clock.begin("compiling", "compiling", lasting=True)
    clock.save()
    assert json.loads(file.read_text()) == {"ml-100k": {"compiling": 8.6},
                                            "ml-1m": {"compiling": 0.0}}


@pytest.mark.parametrize("text", ["", "[]", '{"ml-100k": 3}', '{"ml-100k": {"compiling": "x"}}', "\x00"])
def test_a_damaged_file_is_ignored(tmp_path, text):
    (tmp_path / "stage_seconds.json").write_text(text)
    out = io.StringIO()
    clock = StageClock(Console(out), tmp_path, "ml-100k")
    clock.begin("compiling", "compiling", lasting=True)
    clock.save()
    assert out.getvalue() == "compiling\n"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    clock = StageClock(Console(io.StringIO()), tmp_path / "file", "ml-100k")
    clock.begin("compiling", "compiling", lasting=True)
    clock.save()
    assert (tmp_path / "file").read_text() == "in the way"
