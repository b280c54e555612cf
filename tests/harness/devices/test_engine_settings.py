"""How the order of an epoch is selected."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("tensorflow")

from harness.devices.engine_settings import with_order_method  # noqa: E402
from harness.devices.setup import Device
from reference_model.base.config import EngineConfig

SMALL = EngineConfig(
    num_users=10, num_items=20, num_positives=50, mf_dim=4, mlp_layers=(8, 4), batch_size=100
)


@pytest.mark.parametrize("device, expected", [
    (Device("cpu", "", 1), "assignment"),
    (Device("gpu", "", 1), "sorted_keys"),
    (Device("tpu", "", 1), "sorted_keys"),
    (Device("gpu", "", 2, strategy=object()), "assignment"),
])  # fmt: skip
def test_one_accelerator_makes_its_own_order(device, expected):
    assert with_order_method(SMALL, device, None).order == expected


def test_other_engines_synthetic_batches_and_long_epochs_keep_theirs():
    gpu = Device("gpu", "", 1)
    assert with_order_method(SMALL, gpu, None, "my_package:Engine") == SMALL
    synthetic = replace(SMALL, synthetic=True)
    assert with_order_method(synthetic, gpu, None) == synthetic
    long = replace(SMALL, num_positives=2**30)
    assert with_order_method(long, gpu, None).order == "assignment"


def test_exported_programs_and_a_repeated_log_decide():
    cpu, gpu = Device("cpu", "", 1), Device("gpu", "", 1)
    exported = SimpleNamespace(order="sorted_keys")
    assert with_order_method(SMALL, cpu, exported).order == "sorted_keys"
    assert with_order_method(SMALL, gpu, None, logged="assignment").order == "assignment"
    assert with_order_method(SMALL, cpu, None, logged="sorted_keys").order == "sorted_keys"
