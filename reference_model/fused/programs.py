"""The programs of the fused engine as pure functions of arrays.

A program takes and returns flat lists of arrays, and its sizes are static. So it can be lowered to
StableHLO and run by any runtime. The functions are traced by TensorFlow; the descriptions need
only NumPy. `training_loop.py` and `evaluation_loop.py` contain the computations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, NamedTuple, Sequence

from reference_model.base.config import EngineConfig
from reference_model.device_sampling.epoch_order import EpochOrders
from reference_model.device_sampling.key_order import KeyOrder
from reference_model.device_sampling.negatives import SamplerSpec
from reference_model.fused.evaluation_loop import EvaluationSpec, rank_users
from reference_model.fused.training_loop import (
    TrainingSpec,
    TrainingState,
    drawn_batches,
    examples,
    precomputed_batches,
    sample_steps,
    synthetic_batches,
    train_steps,
)
from reference_model.model.adam import Moments
from reference_model.model.initial_weights import weight_shapes

# How the examples of a step are made, by the name of the training program.
BATCHES = {
    "drawn": drawn_batches,
    "precomputed": precomputed_batches,
    "synthetic": synthetic_batches,
}


class ArraySpec(NamedTuple):
    """The dtype and the shape of an array.

    Attributes:
      dtype: the name of a NumPy dtype.
      shape: the sizes of all dimensions.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A pure function of arrays.

    Attributes:
      name: identifies the program among those of one engine.
      function: function(*inputs) -> tuple of outputs; traced by TensorFlow.
      inputs, outputs: descriptions of the arrays.
      donated: the positions of inputs whose memory the outputs may reuse.
      exact_float32: as in `Plan`.
    """

    name: str
    function: Callable[..., tuple]
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    donated: tuple[int, ...] = ()
    exact_float32: bool = False


_INT32 = ArraySpec("int32", ())
_KEY = ArraySpec("uint64", (1,))


def _weight_specs(config: EngineConfig) -> list[ArraySpec]:
    return [ArraySpec("float32", shape) for shape in weight_shapes(config).values()]


def state_specs(config: EngineConfig) -> list[ArraySpec]:
    """Describes a flat training state: weights, first moments, second moments, step."""
    return _weight_specs(config) * 3 + [_INT32]


def unflatten_state(flat: Sequence) -> TrainingState:
    """Makes a `TrainingState` from the arrays of a flat state."""
    *arrays, step = flat
    size = len(arrays) // 3
    first, second = tuple(arrays[size : 2 * size]), tuple(arrays[2 * size :])
    return TrainingState(list(arrays[:size]), Moments(first, second), step)


def flatten_state(state: TrainingState) -> tuple:
    """Inverts `unflatten_state`."""
    return (*state.weights, *state.moments.first, *state.moments.second, state.step)


def flatten_data(data: Sequence) -> list:
    """Flattens the data of a batch function; its last element may be the sampler's arrays."""
    flat: list = []
    for part in data:
        flat += part if isinstance(part, (list, tuple)) else [part]
    return flat


def sampler_specs(sampler: SamplerSpec) -> list[ArraySpec]:
    """Describes the arrays of `SamplerSpec.arrays`."""
    return [ArraySpec(*spec) for spec in sampler.array_specs()]


def training_program(spec: TrainingSpec, batches: str) -> Program:
    """Makes the program of several steps on one device.

    Its inputs are the flat state, the number of steps, the number of examples from the first step
    on, and the data of the batch function; its outputs are the flat state and the sum of the
    losses.

    Args:
      spec: the static parameters.
      batches: a key of BATCHES.
    """
    config, num_state = spec.config, len(state_specs(spec.config))
    batch_of_step = BATCHES[batches](spec)
    rows = (spec.steps_per_call, spec.local_batch)
    if batches == "drawn":
        data = [ArraySpec(_ids_dtype(config), rows), _INT32, _KEY, *sampler_specs(spec.sampler)]
    elif batches == "precomputed":
        data = [ArraySpec(dtype, rows) for dtype in ("int32", "int32", "bool")]
    else:
        data = [_KEY]

    def train(*inputs):
        state = unflatten_state(inputs[:num_state])
        count, remaining, *rest = inputs[num_state:]
        if batches == "drawn":  # the arrays of the sampler are one argument
            rest = [*rest[:3], rest[3:]]
        state, loss = train_steps(
            spec, state, lambda k: batch_of_step(k, None, *rest), count, remaining,
            is_ordered=batches == "drawn",
        )
        return (*flatten_state(state), loss)

    return Program(
        f"train_{batches}",
        train,
        (*state_specs(config), _INT32, _INT32, *data),
        (*state_specs(config), ArraySpec("float64", ())),
        tuple(range(num_state)),
        spec.plan.exact_float32,
    )


def _ids_dtype(config: EngineConfig) -> str:
    if config.order == "sorted_keys":
        return "int32"
    orders = EpochOrders(config.train_examples, config.batch_size, 1 + config.train_negatives)
    return orders.dtype.name


def evaluation_program(spec: EvaluationSpec) -> Program:
    """Makes the program that ranks the held-out items of a batch of users.

    Its inputs are the weights and the arrays of an `EvaluationBatch`; its outputs are those of
    `rank_users`.
    """
    weights, users = _weight_specs(spec.config), spec.users_per_batch

    def evaluate(*inputs):
        return rank_users(spec, inputs[: len(weights)], *inputs[len(weights) :])

    return Program(
        "evaluate",
        evaluate,
        (
            *weights,
            ArraySpec("int32", (users,)),
            ArraySpec("int32", (users, spec.chunks, spec.width)),
            ArraySpec("int32", (users,)),
            _INT32,
        ),
        (ArraySpec("int32", (users,)), ArraySpec("bool", ()), _INT32),
        exact_float32=spec.plan.exact_float32,
    )


def order_program(config: EngineConfig) -> Program:
    """Makes the program of `KeyOrder.draw`.

    Its inputs are the key and the number of earlier attempts; its outputs are the batches [steps, B]
    and whether two keys are equal.
    """
    order = KeyOrder(config.train_examples, config.batch_size)
    outputs = ArraySpec("int32", (order.steps, config.batch_size)), ArraySpec("bool", ())
    return Program("order", order.draw, (_KEY, _INT32), outputs)


def sampling_program(spec: TrainingSpec) -> Program:
    """Makes the program that draws the examples of several steps without training.

    Its inputs are ids [steps, B], the number of steps, the number of the first step, the key and
    the arrays of the sampler; its output is the sum of the items.
    """
    data = training_program(spec, "drawn").inputs[len(state_specs(spec.config)) + 2 :]
    ids, first, key, *arrays = data

    def sample(ids, count, first, key, *arrays):
        return (sample_steps(spec, ids, count, first, key, arrays),)

    inputs = (ids, _INT32, first, key, *arrays)
    return Program("sample", sample, inputs, (ArraySpec("int64", ()),))


def redraw_program(spec: TrainingSpec) -> Program:
    """Makes the program that draws the examples of one step and returns them.

    Its inputs are ids [padded rows], the number of the step, the key and the arrays of the
    sampler; its outputs are user, item and is_positive, [padded rows] each.
    """
    data = training_program(spec, "drawn").inputs[len(state_specs(spec.config)) + 2 :]
    ids, _, key, *arrays = data
    rows = (spec.plan.padded_rows,)

    def redraw(ids, step, key, *arrays):
        return examples(spec, ids, step, key, arrays)

    return Program(
        "redraw",
        redraw,
        (ArraySpec(ids.dtype, rows), _INT32, key, *arrays),
        tuple(ArraySpec(dtype, rows) for dtype in ("int32", "int32", "bool")),
    )


def program_specs(config: EngineConfig, device: str) -> tuple[TrainingSpec, EvaluationSpec]:
    """Makes the static parameters of training and evaluation on one device.

    Args:
      config: the sizes and settings.
      device: the device type, for which the plan is made.
    """
    sampler = SamplerSpec.of(config.num_users, config.num_items, config.num_positives)
    return TrainingSpec.of(config, device, sampler), EvaluationSpec.of(config, device)


def engine_programs(config: EngineConfig, device: str) -> list[Program]:
    """Makes all programs of an engine on one device.

    Args:
      config: the sizes and settings.
      device: the device type, for which the plan is made.
    """
    training, evaluation = program_specs(config, device)
    if config.synthetic:
        return [training_program(training, "synthetic"), evaluation_program(evaluation)]
    return [
        training_program(training, "drawn"),
        training_program(training, "precomputed"),
        evaluation_program(evaluation),
        sampling_program(training),
        redraw_program(training),
        *([order_program(config)] if config.order == "sorted_keys" else []),
    ]
