"""Loops: how often they run, and the cost of a step."""

from __future__ import annotations

import pytest

from scripts.accelerators.loops import known_trips
from scripts.accelerators.program_cost import step_cost
from tests.accelerators.hlo import module


def loop(condition: str, body: str, start: str, note: str = "") -> str:
    """Makes a module in which the loop %w changes the counter, element 0 of its state."""
    return module(
        f"""%condition (s: (s32[], f32[100])) -> pred[] {{
          %s = (s32[], f32[100]{{0}}) parameter(0)
          %k = s32[] get-tuple-element(%s), index=0
          {condition}
        }}""",
        f"""%body (s: (s32[], f32[100])) -> (s32[], f32[100]) {{
          %s = (s32[], f32[100]{{0}}) parameter(0)
          %k = s32[] get-tuple-element(%s), index=0
          %x = f32[100]{{0}} get-tuple-element(%s), index=1
          {body}
          %y = f32[100]{{0}} negate(%x)
          ROOT %t = (s32[], f32[100]{{0}}) tuple(%next, %y)
        }}""",
        entry=f"""%main (x: f32[100], n: s32[]) -> (s32[], f32[100]) {{
          %x = f32[100]{{0}} parameter(0)
          %n = s32[] parameter(1)
          {start}
          %t = (s32[], f32[100]{{0}}) tuple(%start, %x)
          ROOT %w = (s32[], f32[100]{{0}}) while(%t), condition=%condition, body=%body{note}
        }}""",
    )


def compare(direction: str, limit: int) -> str:
    return (f"%limit = s32[] constant({limit})\n"
            f"  ROOT %c = pred[] compare(%k, %limit), direction={direction}")


def change(opcode: str, by: int) -> str:
    return f"%by = s32[] constant({by})\n  %next = s32[] {opcode}(%k, %by)"


def constant(value: int) -> str:
    return f"%start = s32[] constant({value})"


def trips(found) -> int | None:
    return known_trips(found, found.entry, found.entry.instructions["w"])


@pytest.mark.parametrize("condition, body, start, expected", [
    (compare("LT", 10), change("add", 1), constant(0), 10),
    (compare("LT", 10), change("add", 3), constant(0), 4),  # 0, 3, 6, 9
    (compare("LE", 10), change("add", 5), constant(0), 3),  # 0, 5, 10
    (compare("GE", 0), change("add", -1), constant(14), 15),  # 14, ..., 0
    (compare("GT", 0), change("subtract", 2), constant(7), 4),  # 7, 5, 3, 1
    (compare("LT", 10), change("add", 1), constant(12), 0),
    (compare("LT", 10), change("add", -1), constant(0), None),  # would not end
    (compare("NE", 10), change("add", 1), constant(0), None),
    (compare("LT", 10), change("add", 1), "%start = s32[] copy(%n)", None),  # an argument
    (compare("LT", 10), "%next = s32[] multiply(%k, %k)", constant(2), None),
])  # fmt: skip
def test_trips_of_a_counter(condition, body, start, expected):
    assert trips(loop(condition, body, start)) == expected


def test_the_compilers_trip_count_takes_precedence():
    note = ', backend_config={"known_trip_count":{"n":"15"}}'
    found = loop(compare("NE", 10), change("add", 1), constant(0), note)
    assert trips(found) == 15


def test_a_counter_in_fusions():
    """The compilers fuse the comparison and the addition."""
    found = module(
        """%fused_compare (p: s32[]) -> pred[] {
          %p = s32[] parameter(0)
          %limit = s32[] constant(8)
          ROOT %c = pred[] compare(%p, %limit), direction=LT
        }""",
        """%fused_add (p: s32[]) -> (s32[], s32[]) {
          %p = s32[] parameter(0)
          %two = s32[] constant(2)
          %sum = s32[] add(%p, %two)
          ROOT %both = (s32[], s32[]) tuple(%two, %sum)
        }""",
        """%condition (s: (s32[])) -> pred[] {
          %s = (s32[]) parameter(0)
          %k = s32[] get-tuple-element(%s), index=0
          ROOT %c = pred[] fusion(%k), kind=kLoop, calls=%fused_compare
        }""",
        """%body (s: (s32[])) -> (s32[]) {
          %s = (s32[]) parameter(0)
          %k = s32[] get-tuple-element(%s), index=0
          %f = (s32[], s32[]) fusion(%k), kind=kLoop, calls=%fused_add
          %next = s32[] get-tuple-element(%f), index=1
          ROOT %t = (s32[]) tuple(%next)
        }""",
        entry="""%main () -> (s32[]) {
          %start = s32[] constant(0)
          %t = (s32[]) tuple(%start)
          ROOT %w = (s32[]) while(%t), condition=%condition, body=%body
        }""",
    )
    assert trips(found) == 4


PROGRAM = """%step (s: (s32[], f32[100])) -> (s32[], f32[100]) {{
  %s = (s32[], f32[100]{{0}}) parameter(0)
  %k = s32[] get-tuple-element(%s), index=0
  %x = f32[100]{{0}} get-tuple-element(%s), index=1
  %zero = s32[] constant(0)
  %inner = (s32[], f32[100]{{0}}) tuple(%zero, %x)
  %w = (s32[], f32[100]{{0}}) while(%inner), condition=%until_three, body=%negate
  %y = f32[100]{{0}} get-tuple-element(%w), index=1
  {more}
  ROOT %t = (s32[], f32[100]{{0}}) tuple(%k, %y)
}}"""


def program(more: str = "") -> object:
    """A loop over steps; each step negates 100 numbers three times."""
    return module(
        """%until_three (s: (s32[], f32[100])) -> pred[] {
          %s = (s32[], f32[100]{0}) parameter(0)
          %k = s32[] get-tuple-element(%s), index=0
          %three = s32[] constant(3)
          ROOT %c = pred[] compare(%k, %three), direction=LT
        }""",
        """%negate (s: (s32[], f32[100])) -> (s32[], f32[100]) {
          %s = (s32[], f32[100]{0}) parameter(0)
          %k = s32[] get-tuple-element(%s), index=0
          %x = f32[100]{0} get-tuple-element(%s), index=1
          %one = s32[] constant(1)
          %next = s32[] add(%k, %one)
          %y = f32[100]{0} negate(%x)
          ROOT %t = (s32[], f32[100]{0}) tuple(%next, %y)
        }""",
        PROGRAM.format(more=more),
        """%more_steps (s: (s32[], f32[100])) -> pred[] {
          %s = (s32[], f32[100]{0}) parameter(0)
          ROOT %c = pred[] constant(true)
        }""",
        entry="""%main (x: f32[100]) -> (s32[], f32[100]) {
          %x = f32[100]{0} parameter(0)
          %k = s32[] constant(0)
          %before = f32[100]{0} exponential(%x)
          %t = (s32[], f32[100]{0}) tuple(%k, %before)
          ROOT %w = (s32[], f32[100]{0}) while(%t), condition=%more_steps, body=%step
        }""",
    )


def test_the_cost_of_a_step():
    """Three trips of (addition of counters 12 B, negation 800 B), and four comparisons of 9 B."""
    cost = step_cost(program(), steps_per_call=10)
    outside = 800 / 10  # the exponential, once a call of ten steps
    assert cost.bytes == pytest.approx(3 * (12 + 800) + 4 * 9 + outside)
    assert cost.kernels == 3 * 2 + 4
    assert not cost.host_transfers and not cost.not_counted


def test_a_step_that_leaves_the_device_is_noticed():
    more = "%token = token[] after-all()\n  %sent = token[] outfeed(%y, %token)"
    assert step_cost(program(more), steps_per_call=1).host_transfers == ["sent"]


def test_a_program_without_a_loop_is_refused():
    found = module(entry="""%main (x: f32[1]) -> f32[1] {
      %x = f32[1]{0} parameter(0)
      ROOT %y = f32[1]{0} negate(%x)
    }""")
    with pytest.raises(ValueError, match="no loop over steps"):
        step_cost(found, steps_per_call=1)


def test_a_sort_in_a_branch_counts_once():
    n, body = 20_000, """%step (s: (pred[], u16[20000])) -> (pred[], u16[20000]) {
      %s = (pred[], u16[20000]{0}) parameter(0)
      %p = pred[] get-tuple-element(%s), index=0
      %x = u16[20000]{0} get-tuple-element(%s), index=1
      %y = u16[20000]{0} conditional(%p, %x, %x), true_computation=%sorted, false_computation=%same
      ROOT %t = (pred[], u16[20000]{0}) tuple(%p, %y)
    }"""
    found = module(
        """%less (a: u16[], b: u16[]) -> pred[] {
          %a = u16[] parameter(0)
          %b = u16[] parameter(1)
          ROOT %l = pred[] compare(%a, %b), direction=LT
        }""",
        """%sorted (x: u16[20000]) -> u16[20000] {
          %x = u16[20000]{0} parameter(0)
          ROOT %r = u16[20000]{0} sort(%x), dimensions={0}, to_apply=%less
        }""",
        """%same (x: u16[20000]) -> u16[20000] {
          ROOT %x = u16[20000]{0} parameter(0)
        }""",
        body,
        """%more (s: (pred[], u16[20000])) -> pred[] {
          %s = (pred[], u16[20000]{0}) parameter(0)
          ROOT %c = pred[] constant(true)
        }""",
        entry="""%main (s: (pred[], u16[20000])) -> (pred[], u16[20000]) {
          %s = (pred[], u16[20000]{0}) parameter(0)
          ROOT %w = (pred[], u16[20000]{0}) while(%s), condition=%more, body=%step
        }""",
    )
    cost = step_cost(found, steps_per_call=1, is_gpu=True)
    # Copied before the first pass; a histogram; two passes. All read or write 2 bytes a key.
    assert cost.bytes == 2 * n * (2 + 1 + 2 * 2)
    assert cost.kernels == 5
