"""TPUs: a TPU that does not answer gives a one-line error within a time limit.

The program of a replica has static shapes and never calls its host. Tests that need a TPU are
marked `tpu`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from harness.config.run_config import ConfigError, make_config
from harness.devices import tpu
from harness.flags import parse_flags
from tests.support.runs.harness_runs import ROOT, TRACK, environment, harness

SETTINGS_FRAME = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@contextlib.contextmanager
def server(answer: bytes | None):
    """Yields 127.0.0.1:PORT of a server that sends `answer` to each client (None: nothing)."""
    held = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                held.append(connection)
                if answer is not None:
                    connection.recv(64)
                    connection.sendall(answer)
                    if not answer.startswith(SETTINGS_FRAME):
                        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    for connection in held:
        connection.close()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def config_of(*flags):
    return make_config(parse_flags(["--system=sys", f"--track={TRACK}", *flags]))


def refusal(address: str, timeout_s: float = 5.0) -> str:
    with pytest.raises(tpu.TpuError) as caught:
        tpu.check_addresses(config_of(f"--tpu={address}"), timeout_s)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"--tpu={address}")
    return message


# -- an address that does not answer ---------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "grpc://"])
def test_an_address_that_refuses_connections_is_an_error(prefix):
    assert "connection refused" in refusal(prefix + free_port())


def test_an_address_that_never_answers_times_out():
    with server(None) as address:
        assert "did not answer within 0.3 s" in refusal(address, 0.3)


def test_an_address_that_closes_the_connection_is_an_error():
    with server(b"") as address:
        assert "closed the connection" in refusal(address)


def test_an_address_of_another_protocol_is_an_error():
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "does not speak gRPC" in refusal(address)


def test_an_unknown_host_is_an_error():
    assert "no.such.host.invalid:8470" in refusal("grpc://no.such.host.invalid")


@pytest.mark.parametrize("name", ["http://host:1", "grpc://", "host:", "host:99999999", "a:1:2"])
def test_a_malformed_address_is_an_error(name):
    assert "is not an address" in refusal(name)


def test_one_of_several_addresses_that_refuses_is_an_error():
    with server(SETTINGS_FRAME) as good:
        tpu.check_addresses(config_of(f"--tpu={good}"))
        bad = free_port()
        assert f"{bad}: connection refused" in refusal(f"{good},{bad}")


@pytest.mark.parametrize("name", ["local", "my-tpu"])
def test_a_name_is_left_to_tensorflow(name):
    tpu.check_addresses(config_of(f"--tpu={name}", "--tpu_zone=z", "--tpu_project=p"))


def test_a_call_that_takes_longer_than_the_timeout_is_abandoned():
    never = threading.Event()
    with pytest.raises(tpu.TpuError, match="it did not answer within 0.1 s"):
        tpu.call_with_timeout(0.1, "x", never.wait)
    never.set()
    assert tpu.call_with_timeout(5, "x", lambda: 7) == 7
    with pytest.raises(tpu.TpuError, match="KeyError: 'two lines'") as caught:
        tpu.call_with_timeout(5, "x", lambda: {}["two\nlines".replace("\n", " ")])
    assert "\n" not in str(caught.value)


def test_zone_and_project_need_a_name():
    with pytest.raises(ConfigError, match="--tpu_zone requires a TPU's name"):
        config_of("--tpu_zone=z")


def test_the_harness_says_it_in_one_line_before_anything_starts(tmp_path):
    address = free_port()
    flags = [f for f in ("--engine=reference", f"--tpu={address}", "--device=tpu")]
    done = harness(tmp_path, *flags)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "connection refused" in done.stderr and done.stdout == ""
    assert not (tmp_path / "results").exists() and not (tmp_path / "data").exists()


# Connects to a server that answers once like gRPC and then hangs.
HANGING = """
import os, sys
from harness.devices import tpu
from harness.flags import parse_flags
from harness.config.run_config import make_config
config = make_config(parse_flags(["--system=sys", f"--tpu={sys.argv[1]}"]))
try:
    tpu.connect(config, float(sys.argv[2]))
except tpu.TpuError as error:
    print(error, flush=True)
    os._exit(7)
"""


def connects(name: str, timeout_s: float) -> str:
    """Calls `tpu.connect` in a new process; returns its error message."""
    done = subprocess.run(
        [sys.executable, "-c", HANGING, name, str(timeout_s)], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr[-2000:]
    said, = done.stdout.splitlines()
    return said


@pytest.mark.slow
def test_a_server_that_answers_once_and_then_hangs_is_abandoned():
    """TensorFlow itself would wait forever."""
    pytest.importorskip("tensorflow")
    with server(SETTINGS_FRAME) as address:
        assert "it did not answer within 15 s" in connects(address, 15)


@pytest.mark.slow
def test_a_machine_without_a_tpu_is_one_line():
    tf = pytest.importorskip("tensorflow")
    if tf.config.list_physical_devices("TPU"):
        pytest.skip("this machine has a TPU")
    assert connects("local", 60).startswith("--tpu=local: no TPU answers")


# -- the programs of a replica -----------------------------------------------------------

# XLA instructions that leave the device, or wait for another one.
LEAVES = re.compile(r"\b(infeed|outfeed|send|recv|send-done|recv-done|custom-call|rng)\(")
UNBOUNDED = re.compile(r"\[(?:\d+,)*(?:<=\d+|\?)")


def engine_of(kind):
    tf = pytest.importorskip("tensorflow")
    from reference_model.distributed.fused_engine import ReplicatedFusedEngine
    from reference_model.distributed.keras_engine import ReplicatedReferenceEngine
    from reference_model.events import NullSink
    from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT

    cls = {"fused": ReplicatedFusedEngine, "reference": ReplicatedReferenceEngine}[kind]
    strategy = tf.distribute.MirroredStrategy(["/CPU:0"])
    engine = cls(CONFIG, NullSink(), "cpu", strategy=strategy)
    engine._warm_up = lambda: None  # only inspected here; test_replicated runs them
    engine.prepare()
    engine.reset(1)
    engine.load(SPLIT)
    engine.close()
    return engine


@pytest.fixture(scope="module", params=["fused", "reference"])
def programs(request):
    """The HLO text of the programs of one replica, by name: gradients, ranks, update."""
    engine = engine_of(request.param)
    import tensorflow as tf

    from reference_model.model.adam import Moments

    numbers = [tf.constant(x, tf.int32) for x in (0, 0, 7)]
    if request.param == "fused":
        from reference_model.fused.training_loop import drawn_batches, precomputed_batches

        executor, shape = engine._executor, engine._training
        replicas, steps = executor._replicas, shape.steps_per_call
        precomputed = executor.replica_gradients(shape, precomputed_batches(shape))
        ranks = executor.replica_ranks(engine._evaluation)
        (lists,) = engine._lists
    else:
        replicas, steps = engine._replicas, engine._steps_per_call
        precomputed, ranks = engine._precomputed_gradients(), engine._replica_ranks()
        lists = engine._lists
    local = replicas.strategy.experimental_local_results
    weights, size = replicas.local_weights(), (steps, engine.config.batch_size)
    batches = [tf.zeros(size, kind) for kind in (tf.int32, tf.int32, tf.bool)]
    moments = Moments(tuple(weights), tuple(weights))
    found = {
        "precomputed": text(precomputed, (weights, *numbers, *batches)),
        "ranks": text(ranks, (weights, tf.constant(0), *(local(x)[0] for x in lists))),
        "update": text(replicas._update, (tf.constant(1), weights, moments, weights)),
    }
    if request.param == "fused":
        drawn = executor.replica_gradients(shape, drawn_batches(shape))
        ids, key = tf.zeros(size, engine._orders.dtype), tf.constant(np.array([7], np.uint64))
        arrays = [local(array)[0] for array in engine._arrays]
        data = (ids, tf.constant(0), key, arrays)
        found["drawn"] = text(drawn, (weights, *numbers, *data))
    return found


def text(function, arguments) -> str:
    return function.experimental_get_compiler_ir(*arguments)(stage="hlo")


def test_no_program_of_a_replica_leaves_its_device(programs):
    for name, hlo in programs.items():
        assert "ENTRY" in hlo and len(hlo) > 1000, name
        assert not LEAVES.findall(hlo), (name, LEAVES.findall(hlo))


def test_every_shape_in_a_program_of_a_replica_is_static(programs):
    for name, hlo in programs.items():
        assert not UNBOUNDED.findall(hlo), name
        assert "set-dimension-size(" not in hlo, name


def test_the_search_finds_callbacks_and_dynamic_shapes():
    """The patterns match a callback to the host, and a shape known only at run time."""
    tf = pytest.importorskip("tensorflow")

    @tf.function(jit_compile=True)
    def dynamic(x):
        return tf.where(x > 0)

    hlo = text(dynamic, (tf.constant([1.0, -1.0]),))
    assert UNBOUNDED.findall(hlo) or "set-dimension-size(" in hlo

    @tf.function(jit_compile=True)
    def calls(x):
        return tf.py_function(lambda y: y, [x], tf.float32)

    with pytest.raises(Exception, match="EagerPyFunc|PyFunc"):
        calls(tf.constant([1.0]))
    assert LEAVES.search('x = f32[] custom-call(y), custom_call_target="xla_host"')


# -- a real TPU --------------------------------------------------------------------------


@pytest.mark.tpu
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_a_run_on_a_real_tpu(tmp_path, engine):
    """One run on all cores of this machine's TPU, fed from shards."""
    tf = pytest.importorskip("tensorflow")
    if not tf.config.list_physical_devices("TPU"):
        pytest.skip("TensorFlow lists no TPU on this machine")
    flags = (f"--engine={engine}", "--device=tpu", "--tpu=local", "--seed=7", "--num_runs=1")
    shards = ("--input=shards", "--prepare_only")
    assert harness(tmp_path, *flags, *shards).returncode == 0
    done = harness(tmp_path, *flags, "--input=shards")
    assert done.returncode == 0, done.stderr
