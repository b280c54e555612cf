"""When products take bfloat16 operands on a CPU."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import pytest

from harness.devices import bfloat16_probe
from harness.devices.bfloat16_probe import multiplies_bfloat16, with_native_bfloat16
from harness.devices.setup import Device
from reference_model.base.config import EngineConfig

WIDE = EngineConfig(10, 20, 50, 4, (256, 256, 128), precision="bfloat16")
NARROW = replace(WIDE, mlp_layers=(64, 32, 16))
CPU = Device("cpu", "a processor", 1)


@pytest.mark.parametrize("settings, device", [
    (replace(WIDE, precision="float32"), CPU), (NARROW, CPU), (WIDE, Device("gpu", "a GPU", 1)),
    (WIDE, Device("cpu", "a CPU", 2, strategy=object()))])
def test_nothing_is_measured_if_the_plan_would_not_use_it(settings, device):
    assert with_native_bfloat16(settings, device, None) == settings


def test_nothing_is_measured_for_other_engines():
    assert with_native_bfloat16(WIDE, CPU, None, "my_package:Engine") == WIDE


@pytest.mark.parametrize("is_native", [True, False])
def test_exported_programs_have_one_of_the_forms(is_native):
    exported = SimpleNamespace(native_bfloat16=is_native)
    assert with_native_bfloat16(WIDE, CPU, exported) == replace(WIDE, native_bfloat16=is_native)


def test_a_compiler_that_rejects_such_products_does_not_get_them(monkeypatch):
    pytest.importorskip("tensorflow")

    def reject(*_):
        raise RuntimeError("Unsupported element type")

    monkeypatch.setattr(bfloat16_probe, "_products", reject)
    assert not with_native_bfloat16(WIDE, CPU, None).native_bfloat16


# Seconds of a product of float32 and of bfloat16 operands; the fastest of several repeats counts.
@pytest.mark.parametrize("seconds, expected", [
    ([1.0, 0.5], True), ([1.0, 0.8], True), ([1.0, 0.9], False), ([1.0, 2.0], False),
    ([1.0, 0.5, 9.0, 0.6], True), ([1.0, 9.0, 1.0, 0.6], True), ([0.5, 0.5, 1.0, 0.5], False)])
def test_bfloat16_must_be_faster_by_a_fifth(monkeypatch, seconds, expected):
    pytest.importorskip("tensorflow")
    from reference_model.fused.tensorflow_executor import OneDeviceExecutor

    times = cycle(seconds)
    monkeypatch.setattr(bfloat16_probe, "_ROWS", 16)
    monkeypatch.setattr(bfloat16_probe, "_seconds", lambda _: next(times))
    assert multiplies_bfloat16(WIDE, OneDeviceExecutor(WIDE, "cpu")) is expected


def test_the_measurement_runs():
    pytest.importorskip("tensorflow")
    assert with_native_bfloat16(WIDE, CPU, None).native_bfloat16 in (True, False)
