"""The products of lowered programs have the precision of the run."""

from __future__ import annotations

import re

import pytest

from reference_model.base.config import EngineConfig
from reference_model.fused.programs import engine_programs
from reference_model.pjrt.lowering import lower

pytest.importorskip("jax", reason="JAX is not installed")



def products(device: str, precision: str) -> list[str]:
    """Returns the lines of StableHLO of all products in the training and evaluation programs."""
    from jax.extend.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    config = EngineConfig(
        num_users=40, num_items=30, num_positives=300, mf_dim=4, mlp_layers=(16, 8), batch_size=64,
        precision=precision,
    )  # fmt: skip
    lines = []
    for program in engine_programs(config, device):
        context = ir.Context()
        module = stablehlo.deserialize_portable_artifact(context, lower(program))
        text = module.operation.get_asm(large_elements_limit=8)
        found = re.findall(r".*dot_general.*", text)
        assert bool(found) == (program.name not in ("sample", "redraw"))
        lines += found
    return lines


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_float32_products_are_exact_on_accelerators(device):
    """With the default precision, XLA rounds to TF32 on GPUs and to bfloat16 on TPUs."""
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products(device, "float32"))


@pytest.mark.parametrize("device, precision", [
    ("gpu", "tf32"), ("gpu", "bfloat16"), ("tpu", "bfloat16"), ("cpu", "float32"),
])  # fmt: skip
def test_other_products_have_the_default_precision(device, precision):
    assert not any("HIGHEST" in line for line in products(device, precision))
