"""Finds and initializes a TPU within a bounded time.

`--tpu` is `local` (the chips of this machine), a gRPC address (`host:port` or
`grpc://host:port`), or the name of a Cloud TPU, with `--tpu_zone` and `--tpu_project`.
TensorFlow waits minutes or forever for a TPU that does not answer, and has no timeout
setting. So a plain socket with a timeout probes each address first, and TensorFlow's own
calls run in a thread that is abandoned after the timeout. The process then ends without
waiting for that thread.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, TypeVar

from harness.base.error_text import one_line, type_and_message
from harness.config.run_config import ConfigError, RunConfig
from harness.devices import tpu_address
from harness.devices.tpu_address import TIMEOUT_SECONDS, no_answer_message

Result = TypeVar("Result")


class TpuError(ConfigError):
    """The TPU does not answer, or is too small; the message is one line."""


def check_addresses(config: RunConfig, timeout_s: float = TIMEOUT_SECONDS) -> None:
    """Checks that a gRPC server answers at each address in `--tpu`; needs no TensorFlow.

    Raises:
      TpuError: A server does not answer within `timeout_s` seconds, or an address is invalid.
    """
    try:
        tpu_address.check_addresses(config.tpu or "local", timeout_s)
    except tpu_address.AddressError as error:
        raise TpuError(str(error)) from None


def connect(config: RunConfig, timeout_s: float = TIMEOUT_SECONDS) -> tuple[Any, str]:
    """Initializes the TPU that the flags name.

    Returns:
      (tf.distribute.TPUStrategy over its cores, its name).

    Raises:
      TpuError: The TPU does not answer; raised a few seconds after `timeout_s` at the latest.
    """
    name = config.tpu or "local"
    check_addresses(config, timeout_s)
    strategy = call_with_timeout(timeout_s, name, lambda: _initialise(config, name))
    return strategy, name


def call_with_timeout(timeout_s: float, name: str, function: Callable[[], Result]) -> Result:
    """Calls a function in a separate thread and waits for its result.

    A thread that takes too long continues in the background: the caller must end the
    process without waiting for it (os._exit).

    Args:
      timeout_s: Longest duration of the function, in seconds.
      name: The value of `--tpu`, for the message.
      function: Takes no arguments.

    Raises:
      TpuError: The function took too long or raised an exception.
    """
    outcome: list[tuple[bool, Any]] = []  # empty until the function has ended

    def run() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:  # passed to the waiting thread
            outcome.append((False, error))

    thread = threading.Thread(target=run, name="tpu", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise TpuError(no_answer_message(name, f"it did not answer within {timeout_s:g} s"))
    succeeded, result = outcome[0]
    if succeeded:
        return result
    if isinstance(result, TpuError):
        raise result
    reason = one_line(type_and_message(result), 200)
    raise TpuError(no_answer_message(name, reason)) from result


def _initialise(config: RunConfig, name: str) -> Any:
    """Initializes the TPU and returns a strategy over `--num_devices` of its cores."""
    import tensorflow as tf

    address = name if "://" in name or not tpu_address.addresses_in(name) else f"grpc://{name}"
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
        tpu=address, zone=config.tpu_zone, project=config.tpu_project
    )
    tf.config.experimental_connect_to_cluster(resolver)
    topology = tf.tpu.experimental.initialize_tpu_system(resolver)
    num_cores = topology.num_tasks * topology.num_tpus_per_task
    count = config.num_devices
    if count is None or count == num_cores:
        return tf.distribute.TPUStrategy(resolver)
    if count > num_cores:
        raise TpuError(f"--num_devices={count}: TPU {name} has fewer cores ({num_cores})")
    assignment = tf.tpu.experimental.DeviceAssignment.build(topology, num_replicas=count)
    return tf.distribute.TPUStrategy(resolver, experimental_device_assignment=assignment)
