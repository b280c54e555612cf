"""What the pack measures: cases, each with the settings of its programs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

from reference_model.base.config import EngineConfig
from reference_model.data.synthetic import SyntheticShape

CASES_FILE = "cases.json"
# Seed of weights, order and negatives.
SEED = 1
CHECK_STEPS = 20


@dataclass(frozen=True)
class Case:
    """One combination of data and settings.

    Attributes:
      name: also that of its folder of programs.
      kind: "check" compares losses and hits with those of a CPU, "speed" measures, "target"
        trains to the target.
      config: the settings.
      device: the device type for which the programs are made. They run on any PJRT device, with
        one exception: CPUs cannot run the bfloat16 products of programs made for accelerators.
      shape: the generated dataset; None for a file.
      data: the name of the prepared dataset in the pack; None for a generated one.
      target: HR@10 to reach; None without one.
      max_epochs: where a run that misses its target ends.
    """

    name: str
    kind: str
    config: EngineConfig
    device: str = "gpu"
    shape: SyntheticShape | None = None
    data: str | None = None
    target: float | None = None
    max_epochs: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Case":
        """Reads an object of `to_json`."""
        config = dict(values["config"])
        for name in ("mlp_layers", "l2_mlp"):
            config[name] = tuple(config[name])
        shape = values["shape"] and SyntheticShape(**values["shape"])
        return cls(**{**values, "config": EngineConfig(**config), "shape": shape})


def write_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Writes the cases of a pack."""
    text = json.dumps([case.to_json() for case in cases], indent=1)
    (folder / CASES_FILE).write_text(text + "\n", encoding="utf-8")


def read_cases(folder: Path) -> list[Case]:
    """Reads the cases of a pack."""
    return [Case.from_json(x) for x in json.loads((folder / CASES_FILE).read_text("utf-8"))]


def check_and_speed_cases(
    base: EngineConfig, check: SyntheticShape, speed: SyntheticShape, check_batch: int,
    speed_batches: Iterable[int], devices: Mapping[str, str],
) -> list[Case]:
    """Makes the cases on generated data.

    Args:
      base: the model and hyperparameters; sizes, batch size and precision are replaced.
      check, speed: the generated datasets.
      check_batch: batch size of the comparison with a CPU.
      speed_batches: batch sizes of the measurements.
      devices: the device type for each precision.
    """

    def case(kind: str, shape: SyntheticShape, batch: int, precision: str) -> Case:
        config = dataclasses.replace(
            base,
            num_users=shape.num_users,
            num_items=shape.num_items,
            num_positives=shape.num_ratings - shape.num_users,
            batch_size=batch,
            precision=precision,
        )
        return Case(f"{kind}-{batch}-{precision}", kind, config, devices[precision], shape)

    cases = [case("check", check, check_batch, precision) for precision in devices]
    cases += [
        case("speed", speed, batch, precision)
        for batch in sorted(speed_batches, reverse=True) for precision in devices
    ]  # fmt: skip
    return cases
