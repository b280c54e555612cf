"""From flags and machine to the devices a trial trains on: the one place that decides.

One device needs no strategy. Several replicas train under one of TensorFlow's own:
MirroredStrategy over the devices of this machine, MultiWorkerMirroredStrategy over
the machines that TF_CONFIG names, TPUStrategy over the cores of a TPU.

Imports TensorFlow only where there is something to set up, so that an engine that
is not built on TensorFlow does not pay for it; only a trial process may use it.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from harness.base import machine
from harness.config.run_config import RunConfig
from harness.devices import tf_config


class DeviceError(RuntimeError):
    """A device that was asked for is not there; the message is one line."""


class Device(NamedTuple):
    """What a trial trains on.

    `kind` is TensorFlow's device type in small letters ("cpu", "gpu", "tpu", ...), `name` what
    the device calls itself, `num_devices` the number of replicas on all workers. `strategy` is
    a tf.distribute.Strategy, None for one device; `strategy_name` as in `--strategy`.
    """

    kind: str
    name: str
    num_devices: int
    strategy_name: str = "one_device"
    strategy: Any = None
    num_workers: int = 1
    threads: int | None = None

    @property
    def identity(self) -> list[Any]:
        """What must agree for figures to agree to the last digit: kind, name, on a CPU the
        threads, and the replicas, since sums are cut into as many parts."""
        threads = self.threads or machine.usable_cpus()
        return [self.kind, self.name, threads if self.kind == "cpu" else None, self.num_devices]

    def describe(self) -> str:
        """What was picked, in a few words."""
        count = "" if self.num_devices == 1 else f"{self.num_devices} x "
        workers = "" if self.num_workers == 1 else f" on {self.num_workers} workers"
        return f"{count}{self.kind} ({self.name}){workers}, strategy {self.strategy_name}"


def set_up(config: RunConfig) -> Device:
    """Chooses and initialises the devices; hides the others from TensorFlow.

    Raises:
      DeviceError: with one line for the user.
    """
    _set_threads(config)
    device = _set_up(config)._replace(threads=config.intra_op_threads)
    _set_products(config.precision, device.kind)
    check_batch(config.batch_size, device.num_devices)
    return device


def check_batch(batch_size: int, replicas: int) -> None:
    """Raises DeviceError where replicas would not get equal parts of a global batch."""
    if batch_size % replicas:
        lower = batch_size - batch_size % replicas
        near = f"{lower} or {lower + replicas}" if lower else str(replicas)
        raise DeviceError(
            f"--batch_size={batch_size}: {replicas} replicas cannot divide it evenly; use {near}"
        )


def _set_products(precision: str, kind: str) -> None:
    """TensorFlow rounds operands on NVIDIA GPUs to TF32 unless told not to; float32 says
    float32. Raises DeviceError where there is no TF32."""
    if kind == "gpu":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    elif precision == "tf32":
        raise DeviceError(
            f"--precision=tf32: NVIDIA GPUs have it, and this run is on {kind}; use float32"
        )


def _set_up(config: RunConfig) -> Device:
    if config.device == "tpu":
        from harness.devices import tpu

        try:
            strategy, name = tpu.connect(config)
        except tpu.TpuError as error:
            raise DeviceError(str(error)) from error
        return Device("tpu", name, strategy.num_replicas_in_sync, "tpu", strategy)
    members = tf_config.for_run(config)
    if members is not None:
        return _multi_worker(config, members)
    if config.device == "cpu" or (config.device == "auto" and not machine.gpus()):
        return _cpus(config)
    return _accelerators(config)


def hide_accelerators() -> None:
    """For CPU runs; before TensorFlow looks, so that nothing is even initialised."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def _cpus(config: RunConfig) -> Device:
    """One CPU; with --num_devices, logical devices that share it, to try strategies on."""
    hide_accelerators()
    count = config.num_devices or 1
    if count == 1 and config.strategy != "mirrored":
        return Device("cpu", machine.cpu_model(), 1)
    _cut_cpu(count)
    return _mirrored("cpu", machine.cpu_model(), count)


def _cut_cpu(count: int) -> None:
    import tensorflow as tf

    logical = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], logical
    )


def _accelerators(config: RunConfig) -> Device:
    """GPUs, or devices of another type that TensorFlow lists."""
    kind = "gpu" if config.device == "auto" else config.device
    used = _visible(kind, config.num_devices, config.device == "auto")
    if not used:
        return _cpus(config)
    name = _name_of(used[0], kind)
    if config.strategy == "one_device" or (config.strategy == "auto" and len(used) == 1):
        return Device(kind, name, 1)
    return _mirrored(kind, name, len(used))


def _visible(kind: str, count: int | None, optional: bool) -> list[Any]:
    """The physical devices to use, made visible; empty only where they are `optional`."""
    import tensorflow as tf

    there = tf.config.list_physical_devices(kind.upper())
    if not there:
        if optional:
            return []
        hint = "check nvidia-smi and that the environment has the gpu extra"
        if kind != "gpu":
            types = sorted({d.device_type.lower() for d in tf.config.list_physical_devices()})
            hint = f"it lists {', '.join(types)}"
        raise DeviceError(
            f"--device={kind}: TensorFlow sees no {kind.upper()}; {hint}, or use --device=cpu"
        )
    if count is not None and count > len(there):
        verb = "is" if len(there) == 1 else "are"
        raise DeviceError(f"--num_devices={count}: only {len(there)} {verb} there")
    used = there[:count] if count else there
    tf.config.set_visible_devices(used, kind.upper())
    for device in used:
        try:
            # Otherwise TensorFlow takes all memory of a GPU that others may use.
            tf.config.experimental.set_memory_growth(device, True)
        except (ValueError, RuntimeError):
            pass  # a device type that has no such setting
    return used


def _name_of(device: Any, kind: str) -> str:
    import tensorflow as tf

    return tf.config.experimental.get_device_details(device).get("device_name", kind)


def _mirrored(kind: str, name: str, count: int) -> Device:
    import tensorflow as tf

    names = [f"/{kind.upper()}:{k}" for k in range(count)]
    return Device(kind, name, count, "mirrored", tf.distribute.MirroredStrategy(names))


def _multi_worker(config: RunConfig, members: tf_config.Cluster) -> Device:
    """The GPUs, or else the CPU, of each worker; every worker must have as many."""
    kind, name, gpus = "cpu", machine.cpu_model(), 0
    if config.device == "cpu" or (config.device == "auto" and not machine.gpus()):
        hide_accelerators()
        if (config.num_devices or 1) > 1:
            raise DeviceError(
                f"--num_devices={config.num_devices}: on CPUs several workers train on one "
                "device each; leave it out"
            )
    elif config.device in ("auto", "gpu"):
        used = _visible("gpu", config.num_devices, False)
        kind, name, gpus = "gpu", _name_of(used[0], "gpu"), len(used)
    else:
        raise DeviceError(
            f"--device={config.device}: several workers train on GPUs or CPUs; use one of them, "
            "or --strategy=mirrored on one machine"
        )
    # All workers find this out alike, before they wait for each other.
    check_batch(config.batch_size, members.num_workers * max(gpus, 1))
    strategy = tf_config.connect(members, gpus)
    return Device(
        kind, name, strategy.num_replicas_in_sync, "multi_worker_mirrored", strategy,
        members.num_workers,
    )  # fmt: skip


def _set_threads(config: RunConfig) -> None:
    """`--intra_op_threads` and `--inter_op_threads`; before TensorFlow's context is made."""
    if config.intra_op_threads is None and config.inter_op_threads is None:
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(config.intra_op_threads or 0)
    tf.config.threading.set_inter_op_parallelism_threads(config.inter_op_threads or 0)
