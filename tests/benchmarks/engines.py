"""The engines of the suite: compiled once per process, then reset and reloaded."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from typing import Any

import pytest

from reference_model.base.config import EngineConfig
from reference_model.data.split import Split
from reference_model.events import NullSink
from tests.benchmarks.inputs import SEED

ENGINES = {
    "reference": ("reference_model.keras_engine.engine", "ReferenceEngine"),
    "fused": ("reference_model.fused.engine", "FusedEngine"),
}
# Engines whose compiled program accepts any number of positives: one serves several splits.
ANY_SIZE = {"reference"}
MODELS = {
    "small": {"mf_dim": 8, "mlp_layers": (64, 32, 16, 8)},
    "large": {"mf_dim": 64, "mlp_layers": (256, 256, 128, 64)},
}


class Engines:
    """Creates engines on demand and caches them, because compiling takes seconds."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, EngineConfig], Any] = {}

    def loaded(self, name: str, split: Split, **settings: Any) -> Any:
        """Returns the engine with these settings, reset, with the split loaded."""
        config = EngineConfig(
            num_users=split.num_users,
            num_items=split.num_items,
            num_positives=split.num_positives,
            **settings,
        )
        key = (name, replace(config, num_positives=0) if name in ANY_SIZE else config)
        engine = self._made.get(key)
        if engine is None:
            engine = self._made[key] = _engine_class(name)(config, NullSink(), "cpu")
            engine.prepare()
        engine.reset(SEED)
        engine.load(split)
        return engine

    def close(self) -> None:
        for engine in self._made.values():
            engine.close()


def _engine_class(name: str) -> Any:
    """Returns the engine class; skips the benchmark if this version does not have it."""
    module, attribute = ENGINES[name]
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"this version has no engine {name}: no module {module}")
    return getattr(importlib.import_module(module), attribute)
