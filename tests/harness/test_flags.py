"""Messages about wrong flags: one line with what is wrong, where, and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest
from absl import flags as absl_flags

from harness.__main__ import main
from harness.flags import parse_flags
from tests.support.paths import ROOT


def message(*argv: str) -> str:
    """Returns the message about wrong arguments."""
    with pytest.raises(absl_flags.Error) as caught:
        parse_flags(argv)
    return str(caught.value)


@pytest.mark.parametrize("argv, expected", [
    (["--batch_size=abc"], "--batch_size=abc: use a whole number"),
    (["--batch_size", "3.5"], "--batch_size=3.5: use a whole number"),
    (["--num_runs=2", "--beta1=x"], "--beta1=x: use a number"),
    (["--quiet=maybe"], "--quiet=maybe: use true or false"),
    (["--noquiet=3"], "--noquiet=3 does not take an argument"),
    (["--batch_size"], "--batch_size: give a value"),
    (["--export", "--quiet"], "--export: give a value; --quiet is another flag"),
    (["--batch_sise=3"], "--batch_sise: no such flag; did you mean --batch_size?"),
    (["--zzz"], "--zzz: no such flag; --help lists the flags"),
    (["ml-1m"], "'ml-1m' is not a flag; flags look like --name=value"),
    (["--flagfile=nowhere.flags"], "--flagfile=nowhere.flags: no such file"),
    (["--flagfile=/"], "--flagfile=/: is not a file"),
    (["--flagfile"], "--flagfile: give the name of a file"),
])
def test_a_wrong_argument_is_named_with_what_to_do(argv, expected):
    assert message(*argv) == expected


@pytest.mark.parametrize("line, expected", [
    ("--batch_size=abc", "--batch_size=abc: use a whole number"),
    ("--batch_sise=3", "--batch_sise: no such flag; did you mean --batch_size?"),
    ("ml-1m", "'ml-1m' is not a flag; flags look like --name=value"),
    ("--flagfile=nowhere.flags", "--flagfile=nowhere.flags: no such file"),
])
def test_a_wrong_line_of_a_flag_file_is_named_by_file_and_line(tmp_path, line, expected):
    file = tmp_path / "my.flags"
    file.write_text(f"# comment\n--track=ml-1m\n\n{line}\n")
    assert message("--num_runs=1", f"--flagfile={file}") == f"{file}:4: {expected}"


def test_an_error_of_the_command_line_is_not_blamed_on_the_flag_file(tmp_path):
    file = tmp_path / "my.flags"
    file.write_text("--track=ml-1m\n")
    assert message(f"--flagfile={file}", "--beta1=x") == "--beta1=x: use a number"


def test_a_flag_file_is_read_as_absl_reads_it(tmp_path):
    inner, outer = tmp_path / "inner.flags", tmp_path / "outer.flags"
    inner.write_text("// settings\n  --batch_size=512\n--quiet\n")
    outer.write_text(f"--track=ml-1m\n--flagfile={inner}\n")
    values = parse_flags(["--flagfile", str(outer), "--batch_size=1024"])
    assert (values["track"], values["batch_size"], values["quiet"]) == ("ml-1m", 1024, True)


def test_a_flag_file_that_includes_itself_is_an_error(tmp_path):
    file = tmp_path / "my.flags"
    file.write_text(f"--flagfile={file}\n")
    assert message(f"--flagfile={file}") == f"{file}:1: --flagfile={file}: the file includes itself"


def test_the_exit_code_is_1_and_the_message_one_line(capsys):
    assert main(["--batch_size=abc"]) == 1
    assert capsys.readouterr().err == "neumf-bench: --batch_size=abc: use a whole number\n"


@pytest.mark.parametrize("called", ["python -m harness", "./run_and_time.sh"])
def test_help_names_the_command_that_was_called(called):
    command = ([str(ROOT / "run_and_time.sh")] if called.startswith("./") else
               [sys.executable, "-m", "harness"])  # fmt: skip
    page = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    name = command[0] if called.startswith("./") else called
    assert f"usage: {name} [--flag=value ...]" in page and f"  {name} --track=ml-1m" in page
