"""Reports missing packages in one line; imports only the standard library."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Sequence

# The modules of the packages that every command requires: `dependencies` in pyproject.toml.
NEEDED_MODULES = ("absl", "mlperf_logging", "msgspec", "numpy", "pandas", "yaml")


def missing_packages(modules: Sequence[str] = NEEDED_MODULES) -> str | None:
    """Returns a line with the missing packages and the remedy; None if none is missing.

    Args:
      modules: The required top-level modules.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    use_environment = "use .venv/bin/python, or " if _is_checkout() else ""
    return f"this Python lacks {', '.join(missing)}; {use_environment}{install_command()}"


def install_command(extra: str = "") -> str:
    """Returns the command that installs this project with an extra.

    Args:
      extra: The name of an extra in pyproject.toml; empty for none.
    """
    name = ("." if _is_checkout() else "neumf-bench") + (f"[{extra}]" if extra else "")
    return f"pip install '{name}'" if extra else f"pip install {name}"


def _is_checkout() -> bool:
    """Whether this package belongs to a checkout and not to an installed wheel."""
    return (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file()
