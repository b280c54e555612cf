"""Checks of the English texts with proselint, codespell and the project's vocabulary.

The checks read Markdown pages, docstrings, messages and comments. The configuration is in
`.proselintrc.json`, `.codespellrc` and `tests/project/prose.yaml`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.prose import comments_prose, markdown_prose, prose_of, python_prose

SUFFIXES = {".md", ".py", ".sh", ".yaml", ".toml"}
# Logs and reports written by programs, and intentionally bad files.
NOT_PROSE = ("tests/data/", "results/")
# Files that quote the words to avoid.
QUOTES = {"tests/project/prose.yaml", "tests/project/test_prose.py"}
# proselint also reports repeated numbers ("0 0"), names ("RUNS runs") and consecutive strings.
PLAIN_WORD_TWICE = re.compile(
    r"'([a-z]{2,}) \1'|'(the|of|to|is|are|and|or|in|that|it|for|with|an?)\n\2'")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The prose of each tracked or new file, by path."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git checkout")
    return {name: prose_of(ROOT / name) for name in sorted(set(found.stdout.splitlines()))
            if Path(name).suffix in SUFFIXES and not name.startswith(NOT_PROSE)
            and name not in QUOTES and (ROOT / name).is_file()}


def test_proselint_finds_nothing(texts, tmp_path):
    pytest.importorskip("proselint", reason="proselint is not installed")
    for name, text in texts.items():
        page = tmp_path / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    found = [line for line in proselint(tmp_path)
             if "lexical_illusions" not in line or PLAIN_WORD_TWICE.search(line)]
    assert not found, "\n".join(found)


def proselint(folder: Path) -> list[str]:
    """Runs proselint on the pages of a folder; returns its findings, each as "FILE:LINE: text"."""
    answer = subprocess.run(
        [sys.executable, "-m", "proselint", "check", "--output-format", "json",
         "--config", str(ROOT / ".proselintrc.json"), str(folder)], capture_output=True, text=True)
    assert answer.stdout, answer.stderr
    findings = []
    for page, result in json.loads(answer.stdout)["result"].items():
        name = Path(page.removeprefix("file://")).relative_to(folder).with_suffix("")
        findings += [f"{name}:{found['pos'][0]}: {found['check_path']}: {found['message']}"
                     for found in result.get("diagnostics", [])]
    return findings


def test_codespell_finds_nothing(texts):
    pytest.importorskip("codespell_lib", reason="codespell is not installed")
    answer = subprocess.run([sys.executable, "-m", "codespell_lib", *texts], cwd=ROOT,
                            capture_output=True, text=True)
    assert answer.stdout + answer.stderr == ""


def test_the_words_of_the_project_are_used(texts):
    words = yaml.safe_load((ROOT / "tests/project/prose.yaml").read_text(encoding="utf-8"))
    found = [f"{name}:{number}: {match.group()!r}: write {instead}"
             for pattern, instead in words.items()
             for name, text in texts.items() for number, line in enumerate(text.split("\n"), 1)
             for match in re.finditer(rf"\b(?:{pattern})\b", line, re.IGNORECASE)]
    assert not found, "\n".join(found)


# --- the extraction of prose ----------------------------------------------------------------


def test_a_linter_that_is_fed_bad_prose_finds_it(tmp_path):
    pytest.importorskip("proselint", reason="proselint is not installed")
    (tmp_path / "page.md.md").write_text("The the run is very good.\n")
    checks = [line.split(": ")[1] for line in proselint(tmp_path)]
    assert "weasel_words.very" in checks and "lexical_illusions" in checks


def test_code_and_tables_of_a_page_are_no_prose():
    page = "One `code`.\n\n    indented\n\n| a | b |\n\n```\nfenced\n```\n[text](target.md)\n"
    assert markdown_prose(page).split("\n") == [
        "One `.", "", "", "", "", "", "", "", "", "[text]", ""]


def test_docstrings_messages_and_comments_of_a_module_keep_their_lines():
    source = '"""This is the first.\n\nSecond.\n"""\nx = "text"  # Third.\ny = f"a set of {x} runs"\n'
    assert python_prose(source).split("\n") == [
        "This is the first.", "", "Second.", "", "Third.", "a set of", ""]


def test_comments_of_a_script_keep_their_lines():
    assert comments_prose("#!/bin/sh\n# One.\necho two  # three\n").split("\n") == [
        "", "One.", "", ""]
