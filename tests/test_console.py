"""What a person sees."""

from __future__ import annotations

import io

import pytest

from harness.console import Console, RunRow, epoch_line, run_table, short_count, short_seconds

STATS = {
    "epoch": 3, "hr": 0.22134, "ndcg": 0.1, "loss": 0.31123, "throughput": 1_234_567.0,
    "eval_throughput": 1e7, "train_seconds": 2.4, "eval_seconds": 0.8,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (950, "950"), (9500, "9.5k"), (999_900, "1M"), (1_234_567, "1.23M"), (2e9, "2G")],
)
def test_short_counts(value, text):
    assert short_count(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0.004, "0.00s"), (9.99, "9.99s"), (12.34, "12.3s"), (99.96, "1:40"), (3723, "1:02:03")],
)
def test_short_seconds(value, text):
    assert short_seconds(value) == text


def test_an_epoch_is_one_line_with_everything():
    line = epoch_line(0, 5, STATS, 0.24, 37, 3.2)
    for part in ("run 1/5", "HR@10 0.2213 / 0.2400", "loss 0.3112", "1.23M ex/s", "3.20s", "left"):
        assert part in line


def test_an_epoch_fits_80_columns_at_its_longest():
    slow = {**STATS, "epoch": 20, "throughput": 123_456.0, "train_seconds": 5000.0}
    assert len(epoch_line(99, 100, slow, 0.635, 30, 3599.0)) <= 80


def test_without_a_target_none_is_shown():
    assert " / " not in epoch_line(0, 1, STATS, None, 0, 1.0).replace("1/1", "")


def test_the_table_has_a_row_a_run_within_80_columns():
    rows = [
        RunRow(0, 2**31 - 2, 12, 0.2413, 12.3456, "converged"),
        RunRow(1, None, 0, None, None, "not converged, check: fail"),
    ]
    lines = run_table(rows).splitlines()
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

    def test_progress_is_written_over(self):
        out = Terminal()
        console = Console(out)
        console.progress("epoch 1")
        console.progress("epoch 2")
        console.keep()
        assert out.getvalue() == "\r\x1b[Kepoch 1\r\x1b[Kepoch 2\n"

    def test_the_verdict_has_colour_unless_no_color(self, monkeypatch):
        out = Terminal()
        Console(out).verdict("PASS: 1 s")
        assert "\x1b[32mPASS" in out.getvalue()
        monkeypatch.setenv("NO_COLOR", "1")
        plain = Terminal()
        Console(plain).verdict("PASS: 1 s")
        assert plain.getvalue() == "PASS: 1 s\n"


def test_a_reader_that_has_gone_does_not_end_the_run():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Console(Gone()).line("text")
