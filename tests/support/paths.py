"""Folders of the checkout that tests refer to."""

from __future__ import annotations

from pathlib import Path

# The project's root, and the folder of golden logs, tracks and recordings.
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
