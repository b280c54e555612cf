"""Lines without meaning are removed from a trial's output; all others stay."""

from __future__ import annotations

import pytest

from harness.processes.console_log import remove_noise

PREFIX = "E0000 00:00:1796098245.057366   11640 "
LOADING = "cpu_aot_loader.cc:220] Loading XLA:CPU AOT result. Target machine feature "
REST = ("Machine type used for XLA:CPU compilation doesn't match the machine type for execution. "
        "Compile machine features: [+avx,+prefer-no-gather] vs host machine features: [avx]")
NOISE = [
    PREFIX + "text_format.cc:378] Error parsing text-format tensorflow.XlaSerializedCacheEntry: "
    "2:1: Expected identifier, got: 5",
    PREFIX + LOADING + "+prefer-no-gather is not  supported on the host machine. " + REST,
    PREFIX + LOADING + "+prefer-no-scatter is not  supported on the host machine. " + REST,
]


@pytest.mark.parametrize("line", NOISE)
def test_noise_is_removed(tmp_path, line):
    path = tmp_path / "out.log"
    path.write_text(f"before\n{line}\nafter\n")
    remove_noise(path)
    assert path.read_text() == "before\nafter\n"


@pytest.mark.parametrize("line", [
    PREFIX + LOADING + "+avx512f is not  supported on the host machine. " + REST,
    PREFIX + "text_format.cc:378] Error parsing text-format tensorflow.GraphDef: 2:1: Expected",
    "a test that mentions " + NOISE[1],
    "ValueError: no such thing",
])
def test_other_lines_stay(tmp_path, line):
    path = tmp_path / "out.log"
    path.write_text(f"{line}\n{NOISE[0]}\nlast line without an end")
    remove_noise(path)
    assert path.read_text() == f"{line}\nlast line without an end"


def test_a_missing_file_is_no_error(tmp_path):
    remove_noise(tmp_path / "missing.log")
