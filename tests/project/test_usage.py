"""Tests of help, examples, hints, and completion in a real shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from compliance.__main__ import build_parser, main
from compliance.cli import shell_completion, usage
from harness.__main__ import main as harness_main
from harness.flag_table import FLAG_GROUPS
from tests.support.runs.harness_runs import ROOT, environment

VERBS = sorted(usage.EXAMPLES)


def module(name: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", name, *args], cwd=ROOT, env=environment(),
                          capture_output=True, text=True, timeout=60)  # fmt: skip


def test_without_arguments_it_says_what_there_is_and_where_to_begin():
    done = module("compliance")
    assert (done.returncode, done.stdout) == (1, "")
    assert all(re.search(rf"^    {verb} ", done.stderr, re.MULTILINE) for verb in VERBS)
    last = done.stderr.splitlines()[-1]
    assert last.endswith("give a verb, for example: python -m compliance check results")


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_has_examples_within_80_columns(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*filter(None, [verb]), "--help"]) == 0
    said = capsys.readouterr()
    assert max(map(len, said.out.splitlines())) <= 80 and said.err == ""
    assert "neumf-compliance " + (verb or "check") in said.out.split("\n\n", 1)[1]


def test_every_verb_is_shown_and_every_example_is_right():
    (verbs,) = [a.choices for a in build_parser()._actions if isinstance(a.choices, dict)]
    assert sorted(verbs) == VERBS
    for verb, examples in usage.EXAMPLES.items():
        for words, purpose in examples:
            assert purpose and build_parser().parse_args([verb, *shlex.split(words.split(" >")[0])])


@pytest.mark.parametrize("args, said", [
    (["chekc", "x"], "did you mean check?"),
    (["check", "--formt", "csv", "x"], "did you mean --format?"),
    (["check", "--format", "cvs", "x"], "did you mean csv?"),
    (["rules", "ncf-close"], "did you mean ncf-closed?"),
    (["check"], "PATH"), (["trace", "a"], "--output"),
    (["check", "none"], "give logs, or a folder"), (["score", "none"], "give the folder of a set"),
    (["score", "setup.txt"], "give "), (["report", "none"], "give the folder of a set"),
    (["compare", "none", "none"], "give the folder"),
    (["trace", "none", "--output", "t"], "give a log"),
    (["regress", "none", "none"], "write it with pytest --benchmark-json")])  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_to_do(args, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.txt").write_text("")
    assert main(args) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_what_may_not_be_read_is_no_internal_error(tmp_path, capsys):
    (tmp_path / "result_0.txt").write_text(":::MLLOG {}\n")
    output = tmp_path / "is" / "t.json"
    output.parent.mkdir()
    (output.parent / f".t.json.{os.getpid()}.tmp").mkdir()
    assert main(["trace", str(tmp_path), "--output", str(output)]) in (1, 3)
    assert "internal" not in capsys.readouterr().err


def test_the_harness_has_examples_and_guesses():
    done = module("harness", "--help")
    assert done.returncode == 0 and "python -m harness --track=ml-1m" in done.stdout
    done = module("harness", "--trak=ml-1m")
    assert done.returncode == 1 and "did you mean --track?" in done.stderr


COMPLETE = """
source /dev/stdin
COMP_WORDS=({words}); COMP_CWORD={last}
COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
$(complete -p {command} | sed 's/.* -F \\([^ ]*\\).*/\\1/') {command}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(script: str, words: str) -> set[str]:
    """Returns bash's completions of the last word, which may be ''."""
    parts = shlex.split(words)
    source = COMPLETE.format(words=words, last=len(parts) - 1, command=parts[0])
    done = subprocess.run(["bash", "-c", source], input=script, capture_output=True, text=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
class TestCompletion:
    def test_verbs_flags_and_choices_of_the_checker(self, capsys):
        assert main(["--print-completion", "bash"]) == 0
        script = capsys.readouterr().out
        assert set(VERBS) <= completed(script, "neumf-compliance ''")
        assert completed(script, "neumf-compliance sc") == {"score"}
        assert {"--format", "--ruleset"} <= completed(script, "neumf-compliance check --")
        assert completed(script, "neumf-compliance check --format m") == {"markdown"}

    def test_flags_and_choices_of_the_harness(self, capsys):
        assert harness_main(["--print-completion=bash"]) == 0
        script = capsys.readouterr().out
        flags = {f"--{flag.name}" for _, group in FLAG_GROUPS for flag in group}
        assert flags <= completed(script, "neumf-bench --")
        assert completed(script, "neumf-bench --precision b") == {"bfloat16"}

    def test_without_shtab_it_says_what_to_install(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "shtab", None)
        assert main(["--print-completion", "bash"]) == harness_main(["--print-completion=zsh"]) == 1
        assert capsys.readouterr().err.count("pip install '.[completion]'") == 2


def test_the_harness_needs_no_flags():
    """Without flags, the only error is a home directory that cannot contain the data."""
    homeless = {**environment(), "HOME": "/dev/null", "XDG_CACHE_HOME": ""}
    done = subprocess.run([sys.executable, "-m", "harness"], cwd=ROOT, env=homeless,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("neumf-bench: --data_dir=/dev/null/.cache/neumf-bench: ")


@pytest.mark.parametrize(
    "words, shell",
    [
        ([], None),
        (["check"], None),
        (["--print-completion"], None),
        (["--print-completion="], None),
        (["--print-completion", "fish"], None),
        (["--print-completion", "zsh"], "zsh"),
        (["--print-completion=bash"], "bash"),
    ],
)
def test_a_completion_script_is_printed_only_when_asked_for(words, shell):
    assert shell_completion.requested_shell(words) == shell
