"""A command-line parser that reports wrong usage in one line, with exit code 1."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn


class UsageParser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations whose errors are one line and exit code 1.

    `argparse` prints the usage as well and exits with 2, which means FAIL in this project.
    """

    def __init__(self, **settings: Any):
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(1)
