"""`--print-completion SHELL`: what a shell needs to complete a command, by shtab."""

from __future__ import annotations

import argparse
import sys
from typing import Sequence

SHELLS = ("bash", "zsh", "tcsh")
_FLAG = "--print-completion"
# What an argument is called where files complete it.
_FILES = frozenset(("PATH", "DIR", "DIR_A", "DIR_B", "LOG", "FILE", "TREE", "BASELINE.json",
                    "NEW.json"))


def asked(argv: Sequence[str]) -> str | None:
    """The shell that the command line asks for; None where it asks for none."""
    words = [*argv[:2], "", ""]
    name, _, shell = words[0].partition("=")
    shell = shell or words[1]
    return shell if name == _FLAG and shell in SHELLS else None


def print_for(parser: argparse.ArgumentParser, shell: str) -> int:
    """Prints the script; returns the exit code."""
    try:
        import shtab
    except ImportError:
        print(f"{parser.prog}: {_FLAG} needs shtab: pip install shtab", file=sys.stderr)
        return 1
    _mark_files(parser, shtab.FILE)
    sys.stdout.write(shtab.complete(parser, shell))
    return 0


def _mark_files(parser: argparse.ArgumentParser, how: object) -> None:
    for action in parser._actions:  # shtab's own way through a parser
        if action.metavar in _FILES:
            action.complete = how
        if isinstance(action.choices, dict):
            for sub in action.choices.values():
                _mark_files(sub, how)
