"""`python -m harness.tune.worker`: trains the curves of a tuner, many in one process.

It reads one request per line, a `TrialSpec` as JSON, from standard input and sends messages on a
pipe:

    type      values                                  meaning
    ready     -                                       the programs are compiled
    epoch     epoch, hr, seconds, load_seconds        an epoch has ended; the worker waits for a
                                                      line "go" or "stop"
    ended     reason (cap | stopped | nan_loss | failed), message

Programs are compiled once per batch size, precision and optimizer: learning rate, betas and epsilon
are arguments of the programs. It ends when its standard input does, or when its parent dies.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import traceback
from collections import OrderedDict
from typing import Any

from harness.base.clock import Stopwatch
from harness.base.error_text import describe_exception, one_line
from harness.base.system_files import available_memory
from harness.config.trial_spec import TrialSpec, dataset_spec, engine_config
from harness.processes.parent_pipe import ParentPipe
from harness.processes.watchdog import die_with_parent
from harness.tune import memory
from harness.tune.curves import train_epochs
from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.events import NullSink

NUMBERS = ("learning_rate", "beta1", "beta2", "epsilon")
# Engines that are kept. Each holds its programs, weights and evaluation lists.
MAX_ENGINES = 6


class EngineShelf:
    """Prepared engines by their settings; the least recently used one is dropped.

    Args:
      device: A `harness.devices.setup.Device`.
      engine_name: The value of `--engine`.
    """

    def __init__(self, device: Any, engine_name: str):
        self._device, self._name = device, engine_name
        # By settings: (engine, the variables of its numbers; empty if they are constants).
        self._engines: OrderedDict[Any, tuple[Any, dict[str, Any]]] = OrderedDict()

    def take(self, settings: EngineConfig) -> Any:
        """Returns a prepared engine with these settings."""
        has_variables = self._takes_variables(settings)
        neutral = {name: 0.5 for name in NUMBERS} if has_variables else {}
        key = dataclasses.replace(settings, **neutral)
        if key not in self._engines:
            while self._engines and (len(self._engines) >= MAX_ENGINES or _is_short_of_memory(key)):
                self._engines.popitem(last=False)
            self._engines[key] = self._make(settings, has_variables)
        self._engines.move_to_end(key)
        engine, variables = self._engines[key]
        for name, variable in variables.items():
            variable.assign(getattr(settings, name))
        return engine

    def _takes_variables(self, settings: EngineConfig) -> bool:
        """Returns whether the numbers can be arguments of the programs.

        They can in the fused engine, traced by TensorFlow on one device, unless a table is updated
        sparsely: that update takes as many steps at once as the betas allow, so they are constants.
        """
        if self._name != "fused" or self._device.strategy or self._device.pjrt_client:
            return False
        from reference_model.model.sparse_adam import use_sparse_update

        tables = settings.num_users, settings.num_items
        return not any(use_sparse_update(settings, rows) for rows in tables)

    def _make(self, settings: EngineConfig, has_variables: bool) -> tuple[Any, dict[str, Any]]:
        """Makes and prepares an engine; returns it with its variables."""
        from harness.config.engine_loader import load_engine_class, make_engine
        from harness.devices.bfloat16_probe import with_native_bfloat16

        device, variables = self._device, {}
        settings = with_native_bfloat16(settings, device, None, self._name)
        if has_variables:
            import tensorflow as tf

            variables = {
                name: tf.Variable(getattr(settings, name), dtype=tf.float32) for name in NUMBERS
            }
            # Traced programs capture variables, which XLA takes as arguments; lowered programs, as
            # in a run, would have the numbers as constants and be compiled for each trial.
            settings = dataclasses.replace(settings, **variables)
            engine = load_engine_class(self._name)(settings, NullSink(), device.kind)
        else:
            engine = make_engine(
                self._name, settings, NullSink(), device.kind, device.strategy, device.pjrt_client
            )
        engine.prepare()
        return engine, variables


def _is_short_of_memory(settings: EngineConfig) -> bool:
    """Returns whether kept engines leave too little memory for another one."""
    available = available_memory()
    return available is not None and memory.run_bytes(settings) > memory.USABLE_SHARE * available


def serve(pipe: ParentPipe) -> None:
    """Trains what the lines of standard input request, until it ends."""
    from harness.devices import setup
    from reference_model.data.prepare import load_split

    shelf: EngineShelf | None = None
    split, split_seconds = None, 0.0
    for line in sys.stdin:
        spec = TrialSpec.from_json(line)
        reason, message = "cap", ""
        try:
            if shelf is None:
                shelf = EngineShelf(setup.set_up(spec.config), spec.config.engine)
                watch = Stopwatch()
                split = load_split(dataset_spec(spec.config.track), spec.config.data_dir)
                split_seconds = watch.lap()
            engine = shelf.take(engine_config(spec))
            pipe.send("ready")
            epochs = train_epochs(engine, split, spec.seed, spec.config.max_epochs)
            for epoch in epochs:
                pipe.send(
                    "epoch", epoch=epoch.number, hr=epoch.evaluated.hr, seconds=epoch.seconds,
                    load_seconds=split_seconds + epoch.load_seconds,
                )  # fmt: skip
                if sys.stdin.readline().strip() != "go":
                    reason = "stopped"
                    break
            epochs.close()
        except NonFiniteLoss as error:
            reason, message = "nan_loss", str(error)
        except (setup.DeviceError, ValueError) as error:
            reason, message = "failed", one_line(error)
        except Exception as error:
            traceback.print_exc()
            reason, message = "failed", describe_exception(error)
        pipe.send("ended", reason=reason, message=message)


def main() -> None:
    """Serves the parent and ends the process."""
    parser = argparse.ArgumentParser(prog="python -m harness.tune.worker", description=__doc__)
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor for messages")
    parser.add_argument("--parent", type=int, help="exit when the process with this id ends")
    args = parser.parse_args()
    die_with_parent(args.parent)
    serve(ParentPipe(args.pipe))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads of an engine must not keep the process alive


if __name__ == "__main__":
    main()
