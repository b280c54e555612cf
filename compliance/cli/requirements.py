"""Says in one line which packages a Python lacks; only the standard library is imported."""

from __future__ import annotations

import importlib.util
from typing import Sequence

# The modules of the packages that every command needs: `dependencies` in pyproject.toml.
NEEDED_MODULES = ("absl", "mlperf_logging", "msgspec", "numpy", "pandas", "yaml")


def missing_packages(modules: Sequence[str] = NEEDED_MODULES) -> str | None:
    """Returns one line on what to do where this Python lacks a package; None where it has all.

    Args:
      modules: The top-level modules that are needed.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"this Python lacks {', '.join(missing)}; use .venv/bin/python, or pip install ."
