"""The error for wrong arguments, which every verb of `python -m compliance` may raise.

`compliance.__main__` prints its message as one line and exits with code 1. Errors in data
files have their own classes, next to the readers (`DataFileError`, `TrackError`,
`RulesetError`, `LedgerError`).
"""

from __future__ import annotations


class UsageError(ValueError):
    """Wrong arguments: a path that does not exist, or a folder without logs.

    The message is one line for the user.
    """
