"""`--print-completion SHELL`: the script by which a shell completes a command, made by shtab.

Both commands use it, `neumf-compliance` and `neumf-bench`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Sequence

SHELLS = ("bash", "zsh", "tcsh")
_FLAG = "--print-completion"
# Arguments with these names in the help take a file or a folder.
_FILE_METAVARS = frozenset(("PATH", "DIR", "DIR_A", "DIR_B", "LOG", "FILE", "TREE",
                            "BASELINE.json", "NEW.json"))


def requested_shell(argv: Sequence[str]) -> str | None:
    """Returns the shell for which the command line asks for a script; None if for none.

    Args:
      argv: The arguments after the program's name.  Only `--print-completion SHELL` or
        `--print-completion=SHELL` at their beginning counts.
    """
    words = [*argv[:2], "", ""]
    name, _, shell = words[0].partition("=")
    shell = shell or words[1]
    return shell if name == _FLAG and shell in SHELLS else None


def print_script(parser: argparse.ArgumentParser, shell: str) -> int:
    """Prints the completion script.

    Args:
      parser: The command's parser.  Its arguments for files are marked for shtab.
      shell: One of SHELLS.

    Returns:
      The exit code: 0, or 1 where shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        print(f"{parser.prog}: {_FLAG} needs shtab: pip install shtab", file=sys.stderr)
        return 1
    _complete_files(parser, shtab.FILE)
    sys.stdout.write(shtab.complete(parser, shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, file_completer: object) -> None:
    """Marks the arguments for files, of the parser and of its sub-parsers."""
    # argparse has no public list of its arguments; shtab itself reads `_actions`.
    for action in parser._actions:
        if action.metavar in _FILE_METAVARS:
            action.complete = file_completer
        if isinstance(action.choices, dict):
            for sub in action.choices.values():
                _complete_files(sub, file_completer)
