"""Exported programs: a folder with one StableHLO file per program and a manifest.

The manifest contains the settings that the programs were made for, since sizes and hyperparameters
are constants in them, and the digest of each file. A run verifies both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Callable, Mapping

from reference_model.base.atomic_files import atomic_write
from reference_model.base.config import EngineConfig
from reference_model.base.errors import DataError
from reference_model.fused.programs import Program

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# Larger files are not read.
_MAX_BYTES = 1 << 28


def export_programs(
    folder: Path,
    config: EngineConfig,
    device: str,
    programs: list[Program],
    lower: Callable[[Program], bytes],
    facts: Mapping[str, Any],
) -> str:
    """Writes programs and their manifest; the manifest is written last.

    Args:
      folder: where to write; created if it is missing.
      config: the settings of the programs.
      device: the device type of their plans.
      programs: the programs.
      lower: makes the StableHLO code of a program.
      facts: further entries of the manifest, such as versions.

    Returns:
      The digest of the manifest; see `ProgramFolder.digest`.

    Raises:
      OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for program in programs:
        code = lower(program)
        name = f"{program.name}.stablehlo"
        with atomic_write(folder / name) as stream:
            stream.write(code)
        entries.append(
            {
                "name": program.name,
                "file": name,
                "sha256": hashlib.sha256(code).hexdigest(),
                "inputs": _specs(program.inputs),
                "outputs": _specs(program.outputs),
                "donated": list(program.donated),
            }
        )
    manifest = {
        "format": FORMAT_VERSION,
        "device": device,
        "settings": settings_of(config),
        **facts,
        "programs": entries,
    }
    text = json.dumps(manifest, indent=1).encode()
    with atomic_write(folder / MANIFEST) as stream:
        stream.write(text)
    return hashlib.sha256(text).hexdigest()


def settings_of(config: EngineConfig) -> dict[str, Any]:
    """Returns the settings that the programs depend on, as JSON values."""
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    del settings["deterministic"]  # an option of the compiler
    return settings


def _specs(specs) -> list[list]:
    return [[spec.dtype, list(spec.shape)] for spec in specs]


class ProgramFolder:
    """A folder of exported programs.

    Attributes:
      digest: SHA-256 of the manifest, which contains the digests of all programs.
      source: SHA-256 of the source that the programs were made from; empty if not recorded.
    """

    def __init__(self, folder: Path):
        """Reads the manifest.

        Raises:
          DataError: the folder contains no readable manifest of this format.
        """
        self._folder = folder
        text = _read(folder / MANIFEST)
        self.digest = hashlib.sha256(text).hexdigest()
        try:
            self._manifest = json.loads(text)
            version = self._manifest["format"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DataError(
                f"{folder / MANIFEST} is not a manifest of exported programs; export them again"
            ) from None
        if version != FORMAT_VERSION:
            raise DataError(
                f"{folder / MANIFEST} has format {version!r}, not {FORMAT_VERSION}; export the "
                "programs again with this version"
            )
        try:
            self._entries = {entry["name"]: entry for entry in self._manifest["programs"]}
            if not all(re.fullmatch("[a-z_]+", name) for name in self._entries):
                raise ValueError("not the name of a program")
            self._settings = dict(self._manifest["settings"])
            self.source = str(self._manifest.get("source", ""))
            self._device = self._manifest["device"]
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{folder / MANIFEST} lacks entries; export the programs again"
            ) from None

    @property
    def native_bfloat16(self) -> bool:
        """Whether the programs multiply bfloat16 operands natively on CPUs."""
        return bool(self._settings.get("native_bfloat16"))

    @property
    def order(self) -> str:
        """How the programs make the order of an epoch; a key of `ORDERS`."""
        return str(self._settings.get("order", "assignment"))

    def verify(self) -> None:
        """Checks that all files are complete and unchanged.

        Raises:
          DataError: a file is missing or was changed.
        """
        for name, entry in self._entries.items():
            self._read_code(name, entry)

    def check(self, config: EngineConfig, device: str) -> None:
        """Checks that the programs were made for these settings.

        Args:
          config: the settings of the run.
          device: the device type of the run.

        Raises:
          DataError: a setting or the device type differs.
        """
        if self._device != device:
            raise DataError(
                f"--programs={self._folder}: the programs are for {self._device}, and this run is "
                f"on {device}; export them with --device={device}"
            )
        wanted = settings_of(config)
        # In the order of the fields: what the user chose precedes what follows from it.
        for name in [*wanted, *(self._settings.keys() - wanted.keys())]:
            if wanted.get(name) != self._settings.get(name):
                raise DataError(
                    f"--programs={self._folder}: the programs have {name} "
                    f"{self._settings.get(name)}, and this run has {wanted.get(name)}; export "
                    "them with the flags of the run"
                )

    def code(self, program: Program) -> bytes:
        """Reads the StableHLO code of a program.

        Raises:
          DataError: the program is missing, has other arrays, or its file was changed.
        """
        entry = self._entries.get(program.name)
        where = f"--programs={self._folder}: the program {program.name}"
        if entry is None:
            raise DataError(f"{where} is missing; export the programs again")
        if (
            entry.get("inputs") != _specs(program.inputs)
            or entry.get("outputs") != _specs(program.outputs)
            or entry.get("donated") != list(program.donated)
        ):
            raise DataError(
                f"{where} has other arrays than this version; export the programs again"
            )
        return self._read_code(program.name, entry)

    def _read_code(self, name: Any, entry: Any) -> bytes:
        """Reads the file of a program; raises DataError if its digest is not the recorded one."""
        code = _read(self._folder / f"{name}.stablehlo")
        if hashlib.sha256(code).hexdigest() != entry.get("sha256"):
            raise DataError(
                f"--programs={self._folder}: the program {name} was changed: its digest is not "
                "that of the manifest; export the programs again"
            )
        return code


def _read(path: Path) -> bytes:
    """Reads a file; raises DataError if it cannot be read."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; make it with --export={path.parent}")
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES} bytes; export the programs again")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
