"""Keeps lowered and compiled programs between the runs of a set, and between sets.

The cache contains StableHLO code and what XLA compiled from it. Both depend on static sizes and
settings; neither contains data of a dataset. A trial copies its compiled programs to a temporary
folder, where XLA's own cache finds them, and stores new ones after the end of the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from harness.base import machine
from harness.config.engine_loader import has_lowered_programs
from harness.config.run_config import RunConfig
from harness.devices.runtime import TENSORFLOW
from harness.devices.setup import Device
from harness.logs.provenance import source_digest
from reference_model.base.config import EngineConfig
from reference_model.base.file_cache import FileCache
from reference_model.fused.programs import Program
from reference_model.pjrt.program_folder import ProgramFolder, settings_of

# A set of ml-100k takes about 2 MB.
MAX_BYTES = 1 << 29
_XLA_FLAGS = "TF_XLA_FLAGS"
_XLA_CACHE_FLAG = "--tf_xla_persistent_cache_directory"


class ProgramCache:
    """The programs of one run.

    Attributes:
      groups: names of the groups of lowered and of compiled programs in the cache.
    """

    def __init__(
        self,
        files: FileCache | None,
        facts: dict[str, Any],
        runtime: str,
        folder: Path | None,
    ):
        """Stores its arguments.

        Args:
          files: the stored files; None if `--program_cache=off`.
          facts: everything that the lowered programs depend on, as JSON values.
          runtime: "tensorflow" or "pjrt", which compile in different ways.
          folder: the empty folder that XLA uses as its cache, if any.
        """
        self._files, self._runtime = files, runtime
        self._lowered = f"lowered-{_digest(facts)}"
        self._compiled = f"{runtime}-{_digest({**facts, **_compiler_facts()})}"
        self.groups = self._lowered, self._compiled
        self._folder = folder
        # Names in the folder: those restored, and all at the end of the warm-up.
        self._known: set[str] = set()
        self._warm: set[str] = set()
        self._new_code: dict[str, bytes] = {}

    def code(self, program: Program) -> bytes:
        """Returns the StableHLO code of a program; imports TensorFlow only if it is not stored."""
        name = f"{program.name}.stablehlo"
        code = self._files.read(self._lowered, name) if self._files else None
        if code is None:
            from reference_model.pjrt.lowering import lower

            code = self._new_code[name] = lower(program)
        return code

    def restore(self) -> None:
        """Copies the stored compiled programs to the folder of XLA's cache."""
        if self._files is None or self._folder is None:
            return
        for name in self._files.names(self._compiled):
            data = self._files.read(self._compiled, name)
            # If the disk is full, the programs are compiled again.
            with contextlib.suppress(OSError):
                if data is not None:
                    (self._folder / name).write_bytes(data)
                    self._known.add(name)

    def end_warm_up(self) -> None:
        """Notes which programs were compiled before the clock starts.

        TensorFlow gives a program that is compiled later another name in each process, so that
        XLA's cache would never find it.
        """
        if self._folder is not None:
            with contextlib.suppress(OSError):  # the folder was removed
                self._warm = {path.name for path in self._folder.iterdir()}

    def save(self) -> None:
        """Stores new programs. Call it after the run, since it writes to the disk."""
        if self._files is None:
            return
        for name, code in self._new_code.items():
            self._files.write(self._lowered, name, code)
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                is_findable = self._runtime != TENSORFLOW or path.name in self._warm
                if path.is_file() and is_findable and path.name not in self._known:
                    self._files.write(self._compiled, path.name, path.read_bytes())
        shutil.rmtree(self._folder, ignore_errors=True)


def make_xla_cache(config: RunConfig, device: Device) -> Path | None:
    """Makes an empty folder and lets XLA keep compiled programs there.

    Call it before XLA compiles the first program.

    Returns:
      The folder; None if no compiled programs are kept.
    """
    if not config.program_cache or not _has_lowered_programs(config, device):
        return None
    try:
        folder = Path(tempfile.mkdtemp(prefix="programs-"))
    except OSError:  # the disk is full, or read-only
        return None
    if device.pjrt_client is not None:
        device.pjrt_client.keep_compiled(folder)
        return folder
    flags = os.environ.get(_XLA_FLAGS, "")
    if _XLA_CACHE_FLAG not in flags:  # else the user has their own cache
        os.environ[_XLA_FLAGS] = f"{flags} {_XLA_CACHE_FLAG}={folder}".strip()
    return folder


def open_cache(
    config: RunConfig,
    settings: EngineConfig,
    device: Device,
    folder: Path | None = None,
    exported: ProgramFolder | None = None,
) -> ProgramCache | None:
    """Opens the cache of `--program_cache` for a run.

    Args:
      config: The settings of the set.
      settings: The settings of the programs.
      device: The device of the run.
      folder: The folder of `make_xla_cache`; the stored compiled programs are copied to it.
      exported: The exported programs of the run; None if they are lowered here.

    Returns:
      The cache; None if the run has no lowered programs.
    """
    if not _has_lowered_programs(config, device):
        return None
    facts = {
        "source": exported.digest if exported else source_digest(folders=("reference_model",)),
        "settings": settings_of(settings),
        "deterministic": settings.deterministic,
        "device": device.kind,
        "versions": machine.versions(),
    }
    files = FileCache(Path(config.program_cache), MAX_BYTES) if config.program_cache else None
    cache = ProgramCache(files, facts, device.runtime, folder)
    cache.restore()
    return cache


def _has_lowered_programs(config: RunConfig, device: Device) -> bool:
    return has_lowered_programs(config.engine, device.kind, device.strategy, device.pjrt_client)


def _compiler_facts() -> dict[str, Any]:
    """Returns what compiled programs depend on, besides their code: processor and options."""
    variables = {**machine.environment(), _XLA_FLAGS: _other_xla_flags()}.items()
    return {
        "machine": platform.machine(),
        "processor": machine.cpu_model(),
        "features": machine.cpu_features(),
        "threads": machine.usable_cpus(),
        "environment": {k: v for k, v in variables if not k.startswith("TF_CPP_")},  # verbosity
    }


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _other_xla_flags() -> str:
    """Returns the flags of XLA in TensorFlow without that of the cache's folder."""
    flags = os.environ.get(_XLA_FLAGS, "").split()
    return " ".join(flag for flag in flags if not flag.startswith(_XLA_CACHE_FLAG))
