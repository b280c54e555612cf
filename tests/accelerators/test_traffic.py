"""Bytes and FLOPs of single instructions, computed by hand."""

from __future__ import annotations

import pytest

from scripts.accelerators.hlo_text import HloError, parse, parse_shapes
from scripts.accelerators.traffic import as_radix_sort
from tests.accelerators.hlo import ADD, kernel, module


@pytest.mark.parametrize("text, size", [
    ("f32[]", 4),
    ("pred[7]{0}", 7),
    ("bf16[100,64]{1,0}", 2 * 100 * 64),
    # A TPU's tile of 8 x 128 pads the minor dimension to 128 and the next one to 8.
    ("f32[100,64]{1,0:T(8,128)}", 4 * 104 * 128),
    ("f32[100,64]{0,1:T(8,128)}", 4 * 64 * 128),  # the first dimension is the minor one
    ("bf16[100,64]{1,0:T(8,128)(2,1)}", 2 * 104 * 128),
    ("s32[1000]{0:T(1024)S(1)}", 4 * 1024),
])  # fmt: skip
def test_bytes_of_shapes(text, size):
    (shape,) = parse_shapes(text)
    assert shape.bytes == size


def test_shapes_of_a_tuple_with_comments_and_memory_spaces():
    shapes = parse_shapes("(f32[2,3]{1,0}, /*index=1*/s32[]{:T(128)}, u8[5]{0:T(128)S(1)})")
    assert [shape.dims for shape in shapes] == [(2, 3), (), (5,)]
    assert [shape.memory_space for shape in shapes] == [0, 0, 1]


def test_an_elementwise_fusion_reads_its_operands_and_writes_its_result():
    found = module(
        """%fused (x: f32[100], y: f32[100]) -> f32[100] {
          %x = f32[100]{0} parameter(0)
          %y = f32[100]{0} parameter(1)
          %twice = f32[100]{0} add(%x, %x)
          ROOT %product = f32[100]{0} multiply(%twice, %y)
        }""",
        entry="""%main (a: f32[100], b: f32[100]) -> f32[100] {
          %a = f32[100]{0} parameter(0)
          %b = f32[100]{0} parameter(1)
          ROOT %f = f32[100]{0} fusion(%a, %b), kind=kLoop, calls=%fused
        }""",
    )
    cost = kernel(found, "f")
    assert (cost.read, cost.written) == (800, 400)


GATHER = """%fused (table: f32[1000,8], ids: s32[50,1]) -> f32[50,8] {
  %table = f32[1000,8]{1,0} parameter(0)
  %ids = s32[50,1]{1,0} parameter(1)
  %scaled = f32[1000,8]{1,0} negate(%table)
  ROOT %rows = f32[50,8]{1,0} gather(%scaled, %ids), offset_dims={1}, slice_sizes={1,8}
}"""


def test_a_gather_reads_the_rows_that_it_takes_also_through_elementwise_operations():
    found = module(GATHER, entry="""%main (t: f32[1000,8], i: s32[50,1]) -> f32[50,8] {
      %t = f32[1000,8]{1,0} parameter(0)
      %i = s32[50,1]{1,0} parameter(1)
      ROOT %f = f32[50,8]{1,0} fusion(%t, %i), kind=kLoop, calls=%fused
    }""")
    cost = kernel(found, "f")
    assert (cost.read, cost.written) == (4 * 50 * 8 + 4 * 50, 4 * 50 * 8)
    assert cost.main.opcode == "gather"


def test_a_gather_from_a_small_table_reads_each_row_as_often_as_it_is_taken():
    text = GATHER.replace("1000", "2")
    found = module(text, entry="""%main (t: f32[2,8], i: s32[50,1]) -> f32[50,8] {
      %t = f32[2,8]{1,0} parameter(0)
      %i = s32[50,1]{1,0} parameter(1)
      ROOT %f = f32[50,8]{1,0} fusion(%t, %i), kind=kLoop, calls=%fused
    }""")
    assert kernel(found, "f").read == 4 * 50 * 8 + 4 * 50


def test_values_in_the_vector_memory_of_a_tpu_move_no_bytes():
    text = GATHER.replace("f32[1000,8]{1,0}", "f32[1000,8]{1,0:T(8,128)S(1)}")
    found = module(text, entry="""%main (t: f32[1000,8], i: s32[50,1]) -> f32[50,8] {
      %t = f32[1000,8]{1,0:T(8,128)S(1)} parameter(0)
      %i = s32[50,1]{1,0} parameter(1)
      ROOT %f = f32[50,8]{1,0} fusion(%t, %i), kind=kLoop, calls=%fused
    }""")
    assert kernel(found, "f").read == 4 * 50


def scatter(reducer: str) -> int:
    found = module(
        ADD,
        """%second (a: f32[], b: f32[]) -> f32[] {
          %a = f32[] parameter(0)
          ROOT %b = f32[] parameter(1)
        }""",
        entry="""%main (t: f32[1000,8], i: s32[50,1], u: f32[50,8]) -> f32[1000,8] {
          %t = f32[1000,8]{1,0} parameter(0)
          %i = s32[50,1]{1,0} parameter(1)
          %u = f32[50,8]{1,0} parameter(2)
          ROOT %s = f32[1000,8]{1,0} scatter(%t, %i, %u), update_window_dims={1}, to_apply=%"""
        + reducer + "\n}",
    )  # fmt: skip
    return kernel(found, "s").bytes


def test_a_scatter_changes_rows_in_place():
    updates, indices = 4 * 50 * 8, 4 * 50
    assert scatter("second") == updates + indices + updates  # writes the rows
    assert scatter("add") == updates + indices + 2 * updates  # reads them, too


def test_sorted_indices_change_a_row_once_for_each_group_of_updates():
    """1,000 updates of 3 rows: XLA's kernel for GPUs takes at least 8 updates before it adds."""
    found = module(ADD, entry="""%main (t: f32[3,8], i: s32[1000,1], u: f32[1000,8]) -> f32[3,8] {
      %t = f32[3,8]{1,0} parameter(0)
      %i = s32[1000,1]{1,0} parameter(1)
      %u = f32[1000,8]{1,0} parameter(2)
      ROOT %s = f32[3,8]{1,0} scatter(%t, %i, %u), indices_are_sorted=true, to_apply=%add
    }""")
    cost = kernel(found, "s")
    changed = 4 * (8 * 1000 // 8 + 3 * 8)
    assert (cost.read, cost.written) == (4 * 1000 * 9 + changed, changed)


def test_a_scatter_in_a_nested_fusion_counts_as_one_outside():
    inner = """%inner (t: f32[1000,8], i: s32[50,1], u: f32[50,8]) -> f32[1000,8] {
      %t = f32[1000,8]{1,0} parameter(0)
      %i = s32[50,1]{1,0} parameter(1)
      %u = f32[50,8]{1,0} parameter(2)
      ROOT %s = f32[1000,8]{1,0} scatter(%t, %i, %u), to_apply=%add
    }"""
    outer = """%outer (t: f32[1000,8], i: s32[50,1], u: f32[50,8]) -> f32[1000,8] {
      %t = f32[1000,8]{1,0} parameter(0)
      %i = s32[50,1]{1,0} parameter(1)
      %u = f32[50,8]{1,0} parameter(2)
      ROOT %f = f32[1000,8]{1,0} fusion(%t, %i, %u), kind=kCustom, calls=%inner
    }"""
    found = module(ADD, inner, outer, entry="""%main (t: f32[1000,8]) -> f32[1000,8] {
      %t = f32[1000,8]{1,0} parameter(0)
      %i = s32[50,1]{1,0} parameter(1)
      %u = f32[50,8]{1,0} parameter(2)
      ROOT %f = f32[1000,8]{1,0} fusion(%t, %i, %u), kind=kCustom, calls=%outer
    }""")
    updates = 4 * 50 * 8
    cost = kernel(found, "f")
    assert (cost.read, cost.written) == (updates + 4 * 50 + updates, updates)


def test_a_copy_by_another_core_reads_and_writes_once_and_is_a_copy():
    found = module(
        """%called (x: f32[1024,64]) -> f32[1024,64] {
          %x = f32[1024,64]{1,0:T(8,128)} parameter(0)
          ROOT %c = f32[1024,64]{0,1:T(8,128)} copy(%x)
        }""",
        entry="""%main (x: f32[1024,64]) -> f32[1024,64] {
          %x = f32[1024,64]{1,0:T(8,128)} parameter(0)
          %s = ((f32[1024,64]{1,0:T(8,128)}), f32[1024,64]{0,1:T(8,128)}, u32[]{:S(8)}) call-start(%x), to_apply=%called
          ROOT %d = f32[1024,64]{0,1:T(8,128)} call-done(%s)
        }""",
    )
    cost = kernel(found, "s")
    # The tile pads 64 columns to 128 in one layout only.
    assert (cost.read, cost.written) == (4 * 1024 * 128, 4 * 1024 * 64)
    assert cost.only_moves


def test_slices_read_and_write_their_part():
    found = module(entry="""%main (x: f32[1000], u: f32[10], k: s32[]) -> f32[1000] {
      %x = f32[1000]{0} parameter(0)
      %u = f32[10]{0} parameter(1)
      %k = s32[] parameter(2)
      %part = f32[10]{0} dynamic-slice(%x, %k), dynamic_slice_sizes={10}
      ROOT %new = f32[1000]{0} dynamic-update-slice(%x, %u, %k)
    }""")
    assert kernel(found, "part").bytes == 40 + 4 + 40
    assert kernel(found, "new").bytes == 40 + 4 + 40


def test_an_asynchronous_copy_into_vector_memory_reads_only():
    found = module(entry="""%main (x: f32[1024]) -> f32[1024] {
      %x = f32[1024]{0:T(1024)} parameter(0)
      %c = (f32[1024]{0:T(1024)S(1)}, f32[1024]{0:T(1024)}, u32[]{:S(2)}) copy-start(%x)
      ROOT %d = f32[1024]{0:T(1024)S(1)} copy-done(%c)
    }""")
    cost = kernel(found, "c")
    assert (cost.read, cost.written) == (4096, 0)


def test_only_kernels_that_compute_nothing_are_copies():
    found = module(
        """%fused (x: f32[100]) -> f32[104] {
          %x = f32[100]{0} parameter(0)
          %zero = f32[] constant(0)
          ROOT %padded = f32[104]{0} pad(%x, %zero), padding=0_4
        }""",
        entry="""%main (a: f32[100]) -> f32[100] {
          %a = f32[100]{0} parameter(0)
          %p = f32[104]{0} fusion(%a), kind=kLoop, calls=%fused
          ROOT %n = f32[100]{0} negate(%a)
        }""",
    )
    assert kernel(found, "p").only_moves and not kernel(found, "n").only_moves


def test_flops_of_products():
    found = module(entry="""%main (a: f32[5,7], b: f32[7,11]) -> f32[5,11] {
      %a = f32[5,7]{1,0} parameter(0)
      %b = f32[7,11]{1,0} parameter(1)
      %d = f32[5,11]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
      %c = f32[5,11]{1,0} convolution(%a, %b), dim_labels=bf_io->bf
      ROOT %g = (f32[5,11]{1,0}, s8[4096]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
    }""")
    for name in "dcg":
        assert kernel(found, name).flops == 2 * 5 * 7 * 11
    # The workspace of a library call is no traffic.
    assert kernel(found, "g").written == 4 * 5 * 11


@pytest.mark.parametrize("line, sent", [
    ("all-reduce(%x), to_apply=%add", 2 * 7 / 8 * 4000),
    ("all-gather(%x), dimensions={0}", 7 * 4000),
    ("reduce-scatter(%x), to_apply=%add", 7 / 8 * 4000),
    ("collective-permute(%x)", 4000),
])  # fmt: skip
def test_bytes_that_a_chip_of_eight_sends(line, sent):
    found = module(ADD, entry=f"""%main (x: f32[1000]) -> f32[1000] {{
      %x = f32[1000]{{0}} parameter(0)
      ROOT %r = f32[1000]{{0}} {line}
    }}""")
    assert kernel(found, "r", chips=8).collective_bytes == sent
    assert kernel(found, "r", chips=1).collective_bytes == 0


@pytest.mark.parametrize("text", ["", "HloModule x", "ENTRY %main () -> f32[] {\n  %a = f32[\n}"])
def test_other_text_is_refused(text):
    with pytest.raises(HloError):
        parse(text)


def test_jax_counts_the_same_for_a_product():
    """The counts of XLA itself, for a program without gathers and slices."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    a, b = jax.numpy.ones((64, 32)), jax.numpy.ones((32, 16))
    compiled = jax.jit(lambda a, b: a @ b).lower(a, b).compile()
    found = parse(compiled.as_text())
    costs = [kernel(found, x.name) for x in found.entry.instructions.values()
             if x.opcode not in ("parameter", "tuple", "bitcast", "get-tuple-element")]
    theirs = compiled.cost_analysis()
    assert sum(cost.flops for cost in costs) == theirs["flops"] == 2 * 64 * 32 * 16
    assert sum(cost.bytes for cost in costs) == theirs["bytes accessed"]


SORT = """%less (a: u16[], b: u16[], c: s32[], d: s32[]) -> pred[] {
      %a = u16[] parameter(0)
      %b = u16[] parameter(1)
      %c = s32[] parameter(2)
      %d = s32[] parameter(3)
      ROOT %l = pred[] compare(%a, %b), direction=LT
    }"""


@pytest.mark.parametrize("n, launches", [(20_000, 5), (10_000, 1)])
def test_a_large_sort_on_a_gpu_takes_a_pass_for_each_8_bits(n, launches):
    found = module(SORT, entry=f"""%main (k: u16[{n}], v: s32[{n}]) -> (u16[{n}], s32[{n}]) {{
      %k = u16[{n}]{{0}} parameter(0)
      %v = s32[{n}]{{0}} parameter(1)
      ROOT %s = (u16[{n}]{{0}}, s32[{n}]{{0}}) sort(%k, %v), dimensions={{0}}, to_apply=%less
    }}""")
    cost, once = as_radix_sort(kernel(found, "s")), 6 * n
    assert kernel(found, "s").bytes == 2 * once
    assert cost.launches == launches
    # The histogram reads the keys; each of two passes reads and writes both arrays.
    assert cost.bytes == 2 * once + (2 * n + 2 * 2 * once if launches > 1 else 0)
