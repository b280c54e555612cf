"""TODO."""

from __future__ import annotations


class UsageError(ValueError):
    """Wrong arguments: a path that does not exist, a folder without logs."""
