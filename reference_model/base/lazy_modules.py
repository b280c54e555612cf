"""TensorFlow and pandas, imported at their first use.

Only the reading of ratings needs pandas. A run reads a prepared split and starts without it.

Many modules contain functions that TensorFlow traces, next to sizes and layouts that need only
NumPy. `from reference_model.base.lazy_modules import tf` makes such a module importable in an
environment without TensorFlow, in which exported programs run (`reference_model/pjrt`).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class LazyModule:
    """A module that is imported when one of its attributes is used first."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)

    def if_imported(self) -> ModuleType | None:
        """Returns the module if this process has imported it."""
        return sys.modules.get(self._name)


pd = LazyModule("pandas")
tf = LazyModule("tensorflow")
