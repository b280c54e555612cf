"""Workers from TF_CONFIG and from SLURM's variables, read without TensorFlow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from harness import slurm
from harness.devices import tf_config
from tests.support.runs.harness_runs import ROOT, environment, harness


def cluster_json(workers=("a:1", "b:2"), kind="worker", index=0, **jobs) -> str:
    task = {"type": kind, "index": index}
    return json.dumps({"cluster": {"worker": list(workers), **jobs}, "task": task})


class TestTfConfig:
    def test_worker_0_is_the_chief(self):
        chief, other = (tf_config.parse_cluster(cluster_json(index=k)) for k in (0, 1))
        assert chief.workers == other.workers == ("a:1", "b:2")
        assert (chief.is_chief, other.is_chief, other.index) == (True, False, 1)

    def test_a_task_called_chief_is_worker_0_and_the_others_come_after_it(self):
        jobs = {"chief": ["c:3"]}
        assert tf_config.parse_cluster(cluster_json(kind="chief", **jobs)).index == 0
        found = tf_config.parse_cluster(cluster_json(kind="worker", **jobs))
        assert (found.workers, found.index) == (("c:3", "a:1", "b:2"), 1)

    def test_an_index_may_be_a_string_of_digits_as_tensorflow_takes_it(self):
        assert tf_config.parse_cluster(cluster_json(index="1")).index == 1

    def test_machines_are_counted_by_their_host_names(self):
        assert tf_config.parse_cluster(cluster_json(("a:1", "a:2", "b:1"))).num_nodes == 2

    def test_an_ipv6_address_is_written_in_brackets(self):
        assert tf_config.parse_cluster(cluster_json(("[::1]:80",))).endpoint(0) == ("::1", 80)

    @pytest.mark.parametrize("text, says", [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no list of workers"),
        ("{}", "no list of workers"),
        ('{"cluster": {}}', "no list of workers"),
        ('{"cluster": {"worker": []}}', "no list of addresses for 'worker'"),
        ('{"cluster": {"worker": "a:1"}}', "no list of addresses for 'worker'"),
        (cluster_json(("a",)), "the address 'a'"),
        (cluster_json((1,)), "the address 1"),
        (cluster_json(("a:0",)), "the address 'a:0'"),
        (cluster_json(("a:65536",)), "the address 'a:65536'"),
        (cluster_json(("a:1", "a:1")), "names a:1 twice"),
        (cluster_json(chief=["a:1"]), "names a:1 twice"),
        (cluster_json(chief=["c:1", "d:1"]), "names 2 chiefs"),
        ('{"cluster": {"worker": ["a:1"]}}', "does not identify this worker"),
        ('{"cluster": {"worker": ["a:1"]}, "task": 1}', "does not identify this worker"),
        (cluster_json(kind="evaluator"), "task 'evaluator'"),
        (cluster_json(kind="chief"), "task 'chief'"),
        (cluster_json(kind=["worker"]), "task ['worker']"),
        (cluster_json(ps=["p:1"]), "names 'ps' tasks"),
        (cluster_json(index=2), "the index 2; the worker list has indices 0 to 1"),
        (cluster_json(index=-1), "the index -1"),
        (cluster_json(index=True), "the index True"),
        (cluster_json(("a:1",), index=1), "has index 0 only"),
    ])
    def test_each_mistake_is_one_line_that_names_it(self, text, says):
        with pytest.raises(tf_config.ClusterError) as error:
            tf_config.parse_cluster(text)
        assert says in str(error.value) and "\n" not in str(error.value)


class TestTheHarness:
    @pytest.mark.parametrize("flags, value, says", [
        ((), cluster_json(index=7), "the index 7"),
        (("--strategy=multi_worker_mirrored",), "", "TF_CONFIG does not name the workers"),
    ])
    def test_refuses_a_wrong_cluster_before_anything_is_made(self, tmp_path, flags, value, says):
        done = harness(tmp_path, *flags, TF_CONFIG=value)
        assert (done.returncode, done.stdout) == (1, "")
        assert says in done.stderr and len(done.stderr.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []

    def test_refuses_a_port_that_is_in_use(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = harness(
                tmp_path, TF_CONFIG=cluster_json((f"localhost:{port}", "localhost:1"))
            )
        assert done.returncode == 1 and f"port {port}" in done.stderr
        assert not (tmp_path / "results").exists()

    def test_on_one_device_ignores_tf_config(self, tmp_path):
        done = harness(tmp_path, "--strategy=one_device", "--prepare_only", TF_CONFIG="{")
        assert done.returncode == 0, done.stderr


class TestSlurm:
    @pytest.mark.parametrize("text, names", [
        ("one", ["one"]),
        ("a1,b-2.example", ["a1", "b-2.example"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10]", ["n08", "n09", "n10"]),
        ("n[1,3-4],login", ["n1", "n3", "n4", "login"]),
        ("r[0-1]n[2-3]-ib", ["r0n2-ib", "r0n3-ib", "r1n2-ib", "r1n3-ib"]),
    ])
    def test_a_list_of_nodes_is_expanded_as_scontrol_does(self, text, names):
        assert slurm.expand_nodes(text) == names

    @pytest.mark.parametrize("text", ["n[", "n[1", "n]1", "n[[1]]", "n[x]", "n[1-]",
                                      "n[0-999999]", "n[0-9999]m[0-9999]"])
    def test_a_malformed_list_of_nodes_is_refused(self, text):
        with pytest.raises(slurm.SlurmError):
            slurm.expand_nodes(text)

    def test_numbers_of_tasks_are_expanded(self):
        assert slurm.tasks_per_node("2(x3),1") == [2, 2, 2, 1]

    STEP = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2,1",
            "SLURM_JOB_ID": "2501", "SLURM_PROCID": "2", "SLURM_NODEID": "1"}

    def test_each_task_is_a_worker_with_a_port_of_its_own(self):
        found = json.loads(slurm.tf_config(self.STEP))
        assert found["cluster"]["worker"] == ["n1:12008", "n1:12009", "n2:12008"]
        assert tf_config.parse_cluster(json.dumps(found)).index == 2

    def test_the_first_port_can_be_chosen(self):
        found = json.loads(slurm.tf_config({**self.STEP, "NEUMF_PORT": "700"}))
        assert found["cluster"]["worker"] == ["n1:700", "n1:701", "n2:700"]

    @pytest.mark.parametrize("change, says", [
        ({"SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST is not set; start the tasks with srun"),
        ({"SLURM_PROCID": "3"}, "the number of tasks is 3"),
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID is 'x'"),
        ({"SLURM_NODEID": "0"}, "--distribution=block"),
        ({"SLURM_STEP_TASKS_PER_NODE": "1"}, "number of nodes 2, but task counts for 1"),
        ({"SLURM_STEP_TASKS_PER_NODE": "a"}, "not a list of tasks"),
    ])
    def test_contradicting_variables_are_one_line(self, change, says):
        with pytest.raises(slurm.SlurmError) as error:
            slurm.tf_config({**self.STEP, **change})
        assert says in str(error.value)

    def test_as_a_command_it_prints_the_value_or_one_line(self):
        def run(**extra: str) -> subprocess.CompletedProcess:
            clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
            return subprocess.run(
                [sys.executable, "-m", "harness.slurm"], capture_output=True, text=True, cwd=ROOT,
                env={**clean, **environment(), **extra},
            )  # fmt: skip

        assert tf_config.parse_cluster(run(**self.STEP).stdout).num_workers == 3
        done = run()
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
