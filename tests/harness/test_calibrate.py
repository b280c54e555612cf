"""`python -m harness.calibrate`: wrong input is one line and exit code 1."""

from __future__ import annotations

import pytest

from harness.calibrate import main
from tests.support.paths import ROOT


@pytest.mark.parametrize("flags, said", [
    (["--track=nothing"], "neither a built-in track"),
    (["--track=ml-1m-paper"], "cannot be fetched: put its files"),
    (["--track=ml-1m", "--summary"], "is not a calibration file"),
])  # fmt: skip
def test_wrong_input_is_one_line(tmp_path, capsys, flags, said):
    code = main([*flags, f"--data_dir={tmp_path}", f"--output={tmp_path / 'curves.json'}"])
    text = capsys.readouterr().err
    assert code == 1 and said in text and len(text.splitlines()) == 1
    assert not (tmp_path / "curves.json").exists()


@pytest.mark.parametrize("text, said", [
    ("{}", "is not a calibration file"),
    ("[", "is not a calibration file"),
    ((ROOT / "compliance/reference_points/ml-1m.json").read_text(), "with other settings"),
])  # fmt: skip
def test_an_existing_file_that_does_not_fit_stays_unchanged(tmp_path, capsys, text, said):
    output, track = tmp_path / "curves.json", ROOT / "tests" / "data" / "tiny-track.yaml"
    output.write_text(text)
    flags = [f"--track={track}", f"--data_dir={tmp_path}", "--runs=1", f"--output={output}"]
    assert main(flags) == 1
    assert said in capsys.readouterr().err and output.read_text() == text
