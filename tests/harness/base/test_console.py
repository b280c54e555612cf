"""Console output: lines, progress, table, verdict."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from harness.base.console import (
    Console,
    RunRow,
    format_count,
    format_epoch_line,
    format_run_table,
    format_seconds,
)
from tests.support.runs.harness_runs import ROOT, TOY, command, environment

STATS = {
    "epoch": 3, "hr": 0.22134, "ndcg": 0.1, "loss": 0.31123, "throughput": 1_234_567.0,
    "eval_throughput": 1e7, "train_seconds": 2.4, "eval_seconds": 0.8,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (950, "950"), (9500, "9.50k"), (999_900, "1.00M"), (1_234_567, "1.23M"),
     (9_999_000, "10.0M"), (123_400_000, "123M"), (2e9, "2.00G")],
)  # fmt: skip
def test_counts_are_formatted_with_three_digits(value, text):
    assert format_count(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0.004, "0.00s"), (9.99, "9.99s"), (12.34, "12.3s"), (99.96, "1:40"), (3723, "1:02:03")],
)
def test_seconds_are_formatted_by_their_size(value, text):
    assert format_seconds(value) == text


def test_an_epoch_line_has_run_hit_rate_loss_speed_and_time():
    line = format_epoch_line(0, 5, STATS, 0.24, 37, 3.2)
    for part in ("run 1/5", "HR@10 0.2213 / 0.2400", "loss 0.3112", "1.23M ex/s", "3.20s", "left"):
        assert part in line


def test_an_epoch_fits_80_columns_at_its_longest():
    slow = {**STATS, "epoch": 20, "throughput": 123_456.0, "train_seconds": 5000.0}
    assert len(format_epoch_line(99, 100, slow, 0.635, 30, 3599.0)) <= 80


def test_rates_of_one_unit_have_one_width():
    lines = [format_epoch_line(0, 5, {**STATS, "throughput": rate}, 0.24, 37, 3.2)
             for rate in (5e6, 6_930_000.0, 950_000.0, 12_300_000.0)]
    assert {line.index("ex/s") for line in lines} == {lines[0].index("ex/s")}


def test_an_epoch_line_without_a_target_shows_none():
    assert " / " not in format_epoch_line(0, 1, STATS, None, 0, 1.0).replace("1/1", "")


def test_the_table_has_a_row_a_run_within_80_columns():
    rows = [
        RunRow(0, 2**31 - 2, 12, 0.2413, 12.3456, "converged"),
        RunRow(1, None, 0, None, None, "not converged, check: fail"),
    ]
    lines = format_run_table(rows).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "12.346" in lines[1] and "converged" in lines[1]


class TestInAPipe:
    def test_lines_are_plain(self):
        out = io.StringIO()
        console = Console(out)
        console.progress("epoch 1")
        console.progress("loading 40%", lasting=False)
        console.verdict("PASS: 1 s")
        assert out.getvalue() == "epoch 1\nPASS: 1 s\n"

    def test_quiet_leaves_out_progress_and_notes_only(self):
        out = io.StringIO()
        console = Console(out, quiet=True)
        console.progress("epoch 1")
        console.note("a note")
        console.line("a table")
        console.verdict("PASS")
        assert out.getvalue() == "a table\nPASS\n"


class TestOnATerminal:
    @pytest.fixture(autouse=True)
    def _terminal(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def test_progress_overwrites_the_previous_line(self):
        out = Terminal()
        console = Console(out)
        console.progress("epoch 1")
        console.progress("epoch 2")
        console.keep_progress_line()
        assert out.getvalue() == "\r\x1b[Kepoch 1\r\x1b[Kepoch 2\n"

    def test_a_lasting_line_is_kept_though_a_stage_overwrote_it(self):
        out = Terminal()
        console = Console(out)
        console.progress("epoch 1")
        console.progress("evaluating", lasting=False)
        console.keep_progress_line()
        assert out.getvalue().endswith("\r\x1b[Kevaluating\r\x1b[Kepoch 1\n")

    def test_a_dumb_terminal_gets_lines(self, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        out = Terminal()
        console = Console(out)
        console.progress("epoch 1")
        console.progress("evaluating", lasting=False)
        console.verdict("PASS: 1 s")
        assert out.getvalue() == "epoch 1\nPASS: 1 s\n"

    def test_long_lines_are_broken_at_words_and_the_verdict_is_not(self):
        out = Terminal()
        console = Console(out)
        console.note("word " * 30)
        console.verdict("valid: " + "word " * 30)
        *lines, verdict = out.getvalue().splitlines()
        assert len(lines) == 2 and max(map(len, lines)) <= 80 < len(verdict)

    def test_output_in_a_pipe_leaves_progress_on_the_terminal(self):
        out, live = io.StringIO(), Terminal()
        console = Console(out, live=live)
        console.progress("epoch 1")
        console.progress("evaluating", lasting=False)
        console.verdict("PASS: 1 s")
        assert out.getvalue() == "epoch 1\nPASS: 1 s\n"
        assert live.getvalue() == "\r\x1b[Kevaluating\r\x1b[K"

    def test_the_verdict_has_colour_unless_no_color(self, monkeypatch):
        out = Terminal()
        Console(out).verdict("PASS: 1 s")
        assert "\x1b[32mPASS" in out.getvalue()
        monkeypatch.setenv("NO_COLOR", "1")
        plain = Terminal()
        Console(plain).verdict("PASS: 1 s")
        assert plain.getvalue() == "PASS: 1 s\n"


def test_a_closed_pipe_does_not_end_the_run():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Console(Gone()).line("text")


def on_a_terminal(argv: list[str], **extra: str) -> tuple[int, str]:
    """Runs a program with all streams on a real terminal of 80 columns."""
    parent, child = pty.openpty()
    os.set_inheritable(child, True)
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {k: v for k, v in environment(TERM="xterm", **extra).items() if v}
    done = subprocess.Popen(argv, stdin=child, stdout=child, stderr=child, cwd=ROOT, env=env)
    os.close(child)
    written = b""
    while True:
        try:
            written += os.read(parent, 65536)
        except OSError:  # all processes have closed the terminal
            break
    os.close(parent)
    return done.wait(timeout=60), written.decode()


def screen(written: str) -> list[str]:
    """Returns the lines that remain on the terminal."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        lines.append(line.split("\r\x1b[K")[-1])
    return lines


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_run_on_a_real_terminal(tmp_path, no_color):
    """One line for all epochs of a run, color unless NO_COLOR is set, the verdict last."""
    code, written = on_a_terminal(
        command(tmp_path, TOY, "--num_runs=1", "--target=0.3"), NO_COLOR=no_color
    )
    assert code == 0, written
    *lines, verdict = screen(written.rstrip("\r\n"))
    assert verdict.replace("\x1b[1m\x1b[32mPASS\x1b[0m", "PASS").startswith("PASS: valid, unscored")
    assert verdict.endswith("/report.txt")
    assert ("\x1b[32m" in verdict) == (not no_color)
    assert sum("ep 3 " in line for line in lines) == 1
    assert not any("ep 2 " in line for line in lines)
    for stage in ("setting up", "compiling", "loading", "training", "evaluating"):
        assert stage in written and not any(line.endswith(stage) for line in lines)
    assert all(len(line) <= 80 for line in lines if "/" not in line)


def test_the_same_run_in_a_pipe_and_quiet(tmp_path):
    flags = ("--num_runs=1", "--target=0.3")
    runs = [
        subprocess.run(command(tmp_path, TOY, *flags, *more), cwd=ROOT, env=environment(),
                       capture_output=True, text=True)
        for more in ((), ("--quiet",))
    ]  # fmt: skip
    for done in runs:
        assert done.returncode == 0 and done.stderr == "" and "\x1b" not in done.stdout
        assert done.stdout.splitlines()[-1].startswith("PASS: valid, unscored")
    loud, quiet = (done.stdout.splitlines() for done in runs)
    assert [line[:12] for line in loud if " ep " in line] == [f"run 1/1 ep {e}" for e in (1, 2, 3)]
    assert quiet[1].split() == ["run", "seed", "epochs", "HR", "seconds", "outcome"]
    assert quiet[0] == "" and len(quiet) == 4


def test_the_checkers_verdict_has_colour_on_a_terminal_only(tmp_path):
    argv = [sys.executable, "-m", "compliance", "check", str(tmp_path)]
    (tmp_path / "result_0.txt").write_text("nothing\n")
    code, written = on_a_terminal(argv)
    assert code == 3
    assert written.rstrip().splitlines()[-1].startswith("\x1b[1m\x1b[31munreadable\x1b[0m: 1 of 1 log")
    assert "\x1b" not in on_a_terminal(argv, NO_COLOR="1")[1]
    assert "\x1b" not in subprocess.run(argv, cwd=ROOT, capture_output=True, text=True).stdout
