"""Loads the engine class that `--engine` names.

`fused`, the default, is this project's fast engine. `reference` is its plain Keras
engine, which computes the same function. `module:Class` is the user's own class: the
trial process imports the module from the current folder or PYTHONPATH and calls the
class with `(EngineConfig, EventSink, device)`. `reference_model.engine.Engine`
documents each method; `python -m harness.engine_conformance module:Class` compares a
class with the reference engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, Callable

from compliance.cli.requirements import install_command

if TYPE_CHECKING:  # imports NumPy, which `--help` and shell completion do not need
    from reference_model.base.config import EngineConfig
    from reference_model.engine import Engine
    from reference_model.events import EventSink

# Built-in engines as `module:Class`, by the value of `--engine`.
ENGINE_PATHS = {
    "fused": "reference_model.fused:FusedEngine",
    "reference": "reference_model.keras_engine.engine:ReferenceEngine",
}
# The same engines for the replicas of a tf.distribute strategy.
REPLICATED_ENGINE_PATHS = {
    "fused": "reference_model.distributed.fused_engine:ReplicatedFusedEngine",
    "reference": "reference_model.distributed.keras_engine:ReplicatedReferenceEngine",
}
BUILTIN_ENGINES = tuple(ENGINE_PATHS)
# Methods that a run requires; the other methods of `Engine` are optional.
REQUIRED_METHODS = ("prepare", "reset", "load", "train_epoch", "evaluate", "close")


class EngineError(ValueError):
    """The engine cannot be loaded; the message is one line."""


def add_current_folder_to_path() -> None:
    """Makes modules of the current folder importable; all other folders take precedence."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def check_engine_name(name: str, needs_tensorflow: bool = True) -> None:
    """Checks that an engine's package exists; imports nothing.

    This is a cheap check before any file is written. The trial process loads the engine.

    Args:
      name: The value of `--engine`.
      needs_tensorflow: Whether a built-in engine traces its programs by TensorFlow; exported
        programs run without it.

    Raises:
      EngineError: TensorFlow, which a built-in engine needs, or the top-level package of
        the user's engine cannot be found.
    """
    if name in ENGINE_PATHS:
        if needs_tensorflow and importlib.util.find_spec("tensorflow") is None:
            raise EngineError(
                f"--engine={name} needs TensorFlow, which is not installed; install the "
                f"extra cpu, gpu or tpu ({install_command('cpu')}), or run exported programs "
                "with --programs=DIR"
            )
        return
    add_current_folder_to_path()
    package = name.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise EngineError(
            f"--engine={name}: there is no module {package}; run in its folder, install it, "
            "or add its folder to PYTHONPATH"
        )


def make_engine(
    name: str,
    config: EngineConfig,
    sink: EventSink,
    device_type: str,
    strategy: Any = None,
    pjrt_client: Any = None,
    programs: Any = None,
) -> Engine:
    """Makes the engine that `--engine` names.

    Args:
      name: The value of `--engine`.
      config: Sizes and settings of the run.
      sink: Receives the engine's events.
      device_type: TensorFlow's device type in lower case, such as "cpu".
      strategy: A tf.distribute.Strategy over several replicas; None for one device.
      pjrt_client: A `reference_model.pjrt.client.PjrtClient`, which runs the programs of the
        fused engine; None for TensorFlow.
      programs: A `ProgramFolder` or a `ProgramCache`, whose `code` returns the code of a program;
        None lowers each program.

    Raises:
      DataError: The exported programs do not fit the settings.
      EngineError: The engine cannot be loaded, or does not accept a strategy.
      ValueError: The engine does not support a setting in `config`.
    """
    if has_lowered_programs(name, device_type, strategy, pjrt_client):
        return _make_fused_engine(config, sink, device_type, pjrt_client, programs)
    if strategy is None:
        return load_engine_class(name)(config, sink, device_type)
    engine_class = load_engine_class(name, REPLICATED_ENGINE_PATHS)
    if "strategy" not in inspect.signature(engine_class).parameters:
        raise EngineError(
            f"--engine={name}: its class takes no strategy= argument and supports only one "
            "device; use --strategy=one_device"
        )
    return engine_class(config, sink, device_type, strategy=strategy)


def has_lowered_programs(name: str, device_type: str, strategy: Any, pjrt_client: Any) -> bool:
    """Returns whether an engine runs lowered programs; the arguments are those of `make_engine`.

    TensorFlow traces the programs itself on other devices than CPUs, since lowered programs were
    never tried there.
    """
    is_lowered = pjrt_client is not None or device_type == "cpu"
    return name == "fused" and strategy is None and is_lowered


def _make_fused_engine(
    config: EngineConfig, sink: EventSink, device_type: str, pjrt_client: Any, programs: Any
) -> Engine:
    """Makes the fused engine with lowered programs for one device."""
    from reference_model.fused import FusedEngine
    from reference_model.pjrt.program_folder import ProgramFolder

    if isinstance(programs, ProgramFolder):
        programs.check(config, device_type)
    if programs is not None:
        code = programs.code
    else:
        from reference_model.pjrt.lowering import lower as code
    if pjrt_client is not None:
        from reference_model.pjrt.executor import PjrtExecutor

        executor: Any = PjrtExecutor(config, pjrt_client, code)
    else:
        from reference_model.fused.tensorflow_executor import OneDeviceExecutor

        executor = OneDeviceExecutor(config, device_type, code=code)
    return FusedEngine(config, sink, device_type, executor=executor)


def load_engine_class(
    name: str, builtin_paths: dict[str, str] = ENGINE_PATHS
) -> Callable[..., Engine]:
    """Imports the engine class that `--engine` names.

    Imports TensorFlow for the built-in engines, so the parent process must not call this.

    Args:
      name: The value of `--engine`.
      builtin_paths: `module:Class` of the built-in engines, by name.

    Raises:
      EngineError: The module or the class does not exist, or a required method is missing.
    """
    module_name, _, class_name = builtin_paths.get(name, name).partition(":")
    add_current_folder_to_path()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything at import
        raise EngineError(
            f"--engine={name}: importing {module_name} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    engine_class = getattr(module, class_name, None)
    if not callable(engine_class):
        raise EngineError(f"--engine={name}: {module_name} has no class {class_name}")
    missing = [m for m in REQUIRED_METHODS if not callable(getattr(engine_class, m, None))]
    if missing:
        raise EngineError(f"--engine={name}: {class_name} lacks {', '.join(missing)}")
    return engine_class
