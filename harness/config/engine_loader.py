"""From `--engine` to the class that trains.

`fused`, the default, is this project's fast engine and `reference` its plain
Keras one, which computes the same function. `module:Class` is anybody
else's: the module is imported in the trial process (the current folder and
PYTHONPATH are searched) and the class is called with `(EngineConfig, EventSink,
device)`. What each method has to do is said in `reference_model.engine.Engine`;
`python -m harness.engine_conformance module:Class` holds a class against the
reference engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from typing import Any, Callable

from reference_model.base.config import EngineConfig
from reference_model.engine import Engine
from reference_model.events import EventSink

BUILT_IN = {
    "fused": "reference_model.fused:FusedEngine",
    "reference": "reference_model.keras_engine.engine:ReferenceEngine",
}
# The same engines over the replicas of a tf.distribute strategy.
REPLICATED = {
    "fused": "reference_model.distributed.replicated:ReplicatedFusedEngine",
    "reference": "reference_model.distributed.replicated:ReplicatedReferenceEngine",
}
ENGINE_METHODS = ("prepare", "reset", "load", "train_epoch", "evaluate", "close")


class EngineError(ValueError):
    """An engine that cannot be loaded; the message is one line."""


def find_in_current_folder() -> None:
    """Modules of the folder that one stands in can be imported, after all others."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def check_engine_name(name: str) -> None:
    """Finds out, importing nothing, whether an engine's package is there at all.

    Raises EngineError. A cheap look before anything is made; the trial process
    is the one that really loads the engine.
    """
    if name in BUILT_IN:
        if importlib.util.find_spec("tensorflow") is None:
            raise EngineError(
                f"--engine={name} needs TensorFlow, which this Python lacks; install the "
                "extra cpu, gpu or tpu (pip install '.[cpu]'), or use ./run_and_time.sh"
            )
        return
    find_in_current_folder()
    package = name.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise EngineError(
            f"--engine={name}: there is no module {package}; run in its folder, install it, "
            "or name its folder in PYTHONPATH"
        )


def make_engine(
    name: str, config: EngineConfig, sink: EventSink, kind: str, strategy: Any = None
) -> Engine:
    """The engine behind an `--engine` value, on one device of type `kind`, or over the
    replicas of `strategy` (a tf.distribute.Strategy).

    Raises EngineError, or ValueError where the engine cannot do what `config` asks for.
    """
    if strategy is None:
        return load_engine_class(name)(config, sink, kind)
    engine_class = load_engine_class(name, REPLICATED)
    if "strategy" not in inspect.signature(engine_class).parameters:
        raise EngineError(
            f"--engine={name}: its class takes no strategy= and so trains on one device only; "
            "use --strategy=one_device"
        )
    return engine_class(config, sink, kind, strategy=strategy)


def load_engine_class(
    name: str, built_in: dict[str, str] = BUILT_IN
) -> Callable[..., Engine]:
    """The engine class behind an `--engine` value.

    Imports TensorFlow for the built-in engines, so only a trial process may call this.

    Raises:
      EngineError: the module or the class is not there, or lacks a method.
    """
    module_name, _, class_name = built_in.get(name, name).partition(":")
    find_in_current_folder()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module does at import
        raise EngineError(
            f"--engine={name}: importing {module_name} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    engine_class = getattr(module, class_name, None)
    if not callable(engine_class):
        raise EngineError(f"--engine={name}: {module_name} has no class {class_name}")
    missing = [m for m in ENGINE_METHODS if not callable(getattr(engine_class, m, None))]
    if missing:
        raise EngineError(f"--engine={name}: {class_name} lacks {', '.join(missing)}")
    return engine_class
