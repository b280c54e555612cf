"""Names of targets, and the descriptions that compilers receive."""

from __future__ import annotations

import pytest

from scripts.accelerators.targets import TargetError, chips, parse_target


@pytest.mark.parametrize("text, topology, count", [
    ("v5e", "v5e:2x2", 1),  # the smallest slice that can be described; one chip is used
    ("v5e:4x4", "v5e:4x4", 16),
    ("v5p:2x2x1", "v5p:2x2x1", 4),
    ("h200", "1x1x1", 1),
    ("h200x8", "1x1x8", 8),
])  # fmt: skip
def test_targets(text, topology, count):
    target = parse_target(text)
    assert (target.topology, target.chips) == (topology, count)


@pytest.mark.parametrize("text, said", [
    ("k80", "no such target; use one of v5e, v5p, v6e, a100, h100, h200, b200"),
    ("", "no such target"),
    ("h200:2x2", "a GPU takes a number, such as h200x8"),
    ("v5ex8", "a TPU takes a shape, such as v5e:2x2"),
    ("h200x0", "use 1 to 1024 GPUs"),
    ("v5e:0x2", "use a shape such as v5e:2x2, of at most 256 chips"),
    ("v5e:2x2x2", "use a shape such as v5e:2x2, of at most 256 chips"),  # a torus of two dimensions
    ("v6e:32x32", "of at most 256 chips"),
])  # fmt: skip
def test_other_words_are_refused_in_one_line(text, said):
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_every_chip_has_a_source_and_plausible_figures():
    for chip in chips().values():
        assert chip.source and chip.kind in ("gpu", "tpu")
        assert 1e10 < chip.memory < 1e12 and 1e11 < chip.bandwidth < 1e13
        assert 1e13 < chip.flops["float32"] < chip.flops["bfloat16"] < 1e16
        assert ("tf32" in chip.flops) == (chip.kind == "gpu") == (chip.gpu is not None)


def test_a_gpu_is_described_by_its_figures():
    text = parse_target("a100").gpu_description
    assert "core_count: 108" in text and "memory_bandwidth: 2039000000000" in text
    assert "cuda_compute_capability { major: 8 minor: 0 }" in text
