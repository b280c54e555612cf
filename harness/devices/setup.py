"""Chooses the devices that a trial trains on, from flags and machine, and sets them up.

One device needs no strategy. Several replicas train under a TensorFlow strategy:
MirroredStrategy over the devices of this machine, MultiWorkerMirroredStrategy over the
machines that TF_CONFIG names, TPUStrategy over the cores of a TPU.

TensorFlow is imported only if there is something to set up, so that an engine without
TensorFlow avoids the cost of the import. Only a trial process may call these functions.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from harness.base import machine
from harness.config.run_config import RunConfig
from harness.devices import tf_config
from harness.devices.runtime import PJRT, TENSORFLOW, choose_runtime


class DeviceError(RuntimeError):
    """A device that a flag requests does not exist; the message is one line."""


class Device(NamedTuple):
    """The devices that a trial trains on.

    Attributes:
      kind: TensorFlow's device type in lower case ("cpu", "gpu", "tpu", ...).
      name: The model name that the device reports.
      num_devices: Number of replicas on all workers.
      strategy_name: A value of `--strategy`, never "auto".
      strategy: A tf.distribute.Strategy; None for one device.
      num_workers: Number of workers of the run.
      threads: `--intra_op_threads`; None for the runtime's default.
      runtime: "tensorflow" or "pjrt".
      pjrt_client: The `PjrtClient` of the device; None for TensorFlow.
    """

    kind: str
    name: str
    num_devices: int
    strategy_name: str = "one_device"
    strategy: Any = None
    num_workers: int = 1
    threads: int | None = None
    runtime: str = TENSORFLOW
    pjrt_client: Any = None

    @property
    def identity(self) -> list[Any]:
        """The properties that affect the last digit of a result.

        These are device type, name, number of threads (on CPUs only, else None) and
        number of replicas. Each thread and each replica computes its own partial sum.
        """
        threads = self.threads or machine.usable_cpus()
        return [self.kind, self.name, threads if self.kind == "cpu" else None, self.num_devices]

    def describe(self) -> str:
        """Returns the choice in a few words, for the console."""
        count = "" if self.num_devices == 1 else f"{self.num_devices} x "
        workers = "" if self.num_workers == 1 else f" on {self.num_workers} workers"
        how = f"strategy {self.strategy_name}" if self.runtime == TENSORFLOW else "runtime pjrt"
        return f"{count}{self.kind} ({self.name}){workers}, {how}"


def set_up(config: RunConfig) -> Device:
    """Chooses and initializes the devices; hides all others from TensorFlow.

    Args:
      config: The settings of the set.

    Raises:
      DeviceError: The devices cannot be set up; the message is one line for the user.
    """
    if config.engine == "fused":
        # Then `import tensorflow` skips Keras, which is a quarter of the import time. Other engines
        # may use `tf.keras`.
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    is_cluster = tf_config.read_cluster(config) is not None
    if choose_runtime(config, is_cluster) == PJRT:
        try:
            return _set_up_pjrt(config)
        except DeviceError:
            # The plug-in is installed, but does not respond: TensorFlow may still work.
            if config.runtime != "auto" or config.programs is not None:
                raise
    # The order matters: TensorFlow accepts thread counts and visible devices only before
    # its context is created, and a strategy creates it.
    _set_threads(config)
    device = _choose_device(config)._replace(threads=config.intra_op_threads)
    _check_precision(config.precision, device.kind)
    _set_matmul_precision(config.precision, device.kind)
    check_batch_size(config.batch_size, device.num_devices)
    return device


def _set_up_pjrt(config: RunConfig) -> Device:
    """Sets up the first device of a PJRT client; raises DeviceError if there is none."""
    from reference_model.pjrt.client import PjrtClient, PjrtError

    kind = config.device
    if kind == "auto":
        kind = "gpu" if machine.gpus() else "cpu"
    _check_precision(config.precision, kind)
    if kind == "cpu":
        hide_accelerators()
    try:
        client = PjrtClient(kind, config.intra_op_threads)
    except PjrtError as error:
        raise DeviceError(str(error)) from error
    name = machine.cpu_model() if kind == "cpu" else client.device_kind
    return Device(kind, name, 1, threads=config.intra_op_threads, runtime=PJRT, pjrt_client=client)


def check_batch_size(batch_size: int, num_replicas: int) -> None:
    """Checks that every replica gets an equal part of a global batch.

    Raises:
      DeviceError: `batch_size` is not a multiple of `num_replicas`.
    """
    if batch_size % num_replicas:
        lower = batch_size - batch_size % num_replicas
        near = f"{lower} or {lower + num_replicas}" if lower else str(num_replicas)
        raise DeviceError(
            f"--batch_size={batch_size} is not a multiple of the number of replicas "
            f"({num_replicas}); use {near}"
        )


def _set_matmul_precision(precision: str, device_type: str) -> None:
    """Makes TensorFlow round the operands of float32 products to TF32, or keep them.

    TensorFlow lets devices round them by default, but `--precision=float32` requires float32.
    """
    if device_type != "cpu":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")


def _check_precision(precision: str, device_type: str) -> None:
    """Raises DeviceError if TF32 is requested and the device is not a GPU."""
    if precision == "tf32" and device_type != "gpu":
        raise DeviceError(
            f"--precision=tf32 requires an NVIDIA GPU, but this run is on {device_type}; "
            "use float32"
        )


def _choose_device(config: RunConfig) -> Device:
    """Chooses a TPU, several workers, CPUs or accelerators, in this order."""
    if config.device == "tpu":
        from harness.devices import tpu

        try:
            strategy, name = tpu.connect(config)
        except tpu.TpuError as error:
            raise DeviceError(str(error)) from error
        return Device("tpu", name, strategy.num_replicas_in_sync, "tpu", strategy)
    cluster = tf_config.read_cluster(config)
    if cluster is not None:
        return _use_workers(config, cluster)
    if _trains_on_cpu(config):
        return _use_cpu(config)
    return _use_accelerators(config)


def _trains_on_cpu(config: RunConfig) -> bool:
    """Returns whether the flags, or the absence of GPUs, leave only the CPU."""
    return config.device == "cpu" or (config.device == "auto" and not machine.gpus())


def hide_accelerators() -> None:
    """Hides all GPUs from TensorFlow, for runs on CPUs.

    Call it before TensorFlow looks for devices, so that it does not initialize GPUs.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def _use_cpu(config: RunConfig) -> Device:
    """Sets up the CPU as one device, or as --num_devices logical devices.

    Logical devices do not increase speed; they serve to test a strategy without accelerators.
    """
    hide_accelerators()
    count = config.num_devices or 1
    if count == 1 and config.strategy != "mirrored":
        return Device("cpu", machine.cpu_model(), 1)
    _split_cpu(count)
    return _make_mirrored("cpu", machine.cpu_model(), count)


def _split_cpu(count: int) -> None:
    """Splits the CPU into `count` logical devices."""
    import tensorflow as tf

    logical = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], logical
    )


def _use_accelerators(config: RunConfig) -> Device:
    """Sets up GPUs, or devices of another type that TensorFlow lists."""
    device_type = "gpu" if config.device == "auto" else config.device
    used = _select_visible(device_type, config.num_devices, config.device == "auto")
    if not used:
        return _use_cpu(config)
    name = _device_name(used[0], device_type)
    if config.strategy == "one_device" or (config.strategy == "auto" and len(used) == 1):
        return Device(device_type, name, 1)
    return _make_mirrored(device_type, name, len(used))


def _select_visible(device_type: str, count: int | None, is_optional: bool) -> list[Any]:
    """Selects physical devices and makes only those visible to TensorFlow.

    Returns the first `count` devices of the type, or all if `count` is None. If there are
    none and the device `is_optional`, returns an empty list. Raises DeviceError if there
    are none otherwise, or too few.
    """
    import tensorflow as tf

    existing = tf.config.list_physical_devices(device_type.upper())
    if not existing:
        if is_optional:
            return []
        hint = "check nvidia-smi and that the gpu extra is installed"
        if device_type != "gpu":
            types = sorted({d.device_type.lower() for d in tf.config.list_physical_devices()})
            hint = f"it lists {', '.join(types)}"
        raise DeviceError(
            f"--device={device_type}: TensorFlow finds no {device_type.upper()}; {hint}, "
            "or use --device=cpu"
        )
    if count is not None and count > len(existing):
        verb = "is" if len(existing) == 1 else "are"
        raise DeviceError(f"--num_devices={count}: only {len(existing)} {verb} available")
    used = existing[:count] if count else existing
    tf.config.set_visible_devices(used, device_type.upper())
    for device in used:
        try:
            # By default TensorFlow allocates all memory of a GPU, which others may use, too.
            tf.config.experimental.set_memory_growth(device, True)
        except (ValueError, RuntimeError):
            pass  # this device type has no such setting
    return used


def _device_name(device: Any, device_type: str) -> str:
    """Returns the model name that TensorFlow reports for a device, else its type."""
    import tensorflow as tf

    return tf.config.experimental.get_device_details(device).get("device_name", device_type)


def _make_mirrored(device_type: str, name: str, count: int) -> Device:
    """Makes a MirroredStrategy over the first `count` visible devices of a type."""
    import tensorflow as tf

    device_names = [f"/{device_type.upper()}:{index}" for index in range(count)]
    strategy = tf.distribute.MirroredStrategy(device_names)
    return Device(device_type, name, count, "mirrored", strategy)


def _use_workers(config: RunConfig, cluster: tf_config.Cluster) -> Device:
    """Sets up this worker's GPUs or its CPU; all workers must have the same number of GPUs."""
    device_type, name, num_gpus = "cpu", machine.cpu_model(), 0
    if _trains_on_cpu(config):
        hide_accelerators()
        if (config.num_devices or 1) > 1:
            raise DeviceError(
                f"--num_devices={config.num_devices}: on CPUs, each of several workers trains "
                "on one device; remove --num_devices"
            )
    elif config.device in ("auto", "gpu"):
        used = _select_visible("gpu", config.num_devices, False)
        device_type, name, num_gpus = "gpu", _device_name(used[0], "gpu"), len(used)
    else:
        raise DeviceError(
            f"--device={config.device}: several workers train on GPUs or CPUs; use one of them, "
            "or --strategy=mirrored on one machine"
        )
    # All workers fail here in the same way, before any of them waits for the others.
    check_batch_size(config.batch_size, cluster.num_workers * max(num_gpus, 1))
    strategy = tf_config.make_strategy(cluster, num_gpus)
    return Device(
        device_type, name, strategy.num_replicas_in_sync, "multi_worker_mirrored", strategy,
        cluster.num_workers,
    )  # fmt: skip


def _set_threads(config: RunConfig) -> None:
    """Sets the numbers of threads; TensorFlow accepts them only before it has a context."""
    if config.intra_op_threads is None and config.inter_op_threads is None:
        return
    import tensorflow as tf

    # 0 selects TensorFlow's default.
    tf.config.threading.set_intra_op_parallelism_threads(config.intra_op_threads or 0)
    tf.config.threading.set_inter_op_parallelism_threads(config.inter_op_threads or 0)
