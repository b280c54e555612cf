"""Measures one benchmark; the version of an input file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.regression.measuring import measure

__all__ = ["file_version", "measure"]


def file_version(path: Path) -> str:
    """Returns the version of an input file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
