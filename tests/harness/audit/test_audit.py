"""`--audit`: a new process confirms or refutes the claims of a log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.audit.log_claims import (
    MissingFlagError,
    UnreadableLogError,
    harness_flags,
    read_claims,
)
from harness.results import checkpoints
from tests.support.logs.log_builder import good_log, index_of, write_log
from tests.support.runs.harness_runs import ROOT, TOY, TRACK, harness, result_log

TOYS = (f"--track={TRACK}", TOY)


def audit(folder: Path, log: Path, *flags: str):
    """Runs `python -m harness --audit`, with the data of `folder`."""
    import subprocess
    import sys

    from tests.support.runs.harness_runs import environment

    return subprocess.run(
        [sys.executable, "-m", "harness", f"--audit={log}", f"--data_dir={folder / 'data'}", *flags],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A set of two toy runs with their checkpoints."""
    folder = tmp_path_factory.mktemp("kept")
    done = harness(folder, TOY, "--target=0.2", "--num_runs=2", "--keep_checkpoint")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture()
def copy(kept, tmp_path):
    """A copy of the set for changes: (folder, first log, first checkpoint)."""
    shutil.copytree(kept, tmp_path / "copy")
    folder = tmp_path / "copy"
    log = result_log(folder)
    return folder, log, log.parent / "checkpoints" / "result_0.npz"


def change(log: Path, key: str, which: int, edit) -> None:
    """Applies `edit` to a record of the log."""
    lines = log.read_text().splitlines()
    records = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
    edit(records[index_of(records, key, which)])
    log.write_text("".join(":::MLLOG " + json.dumps(r) + "\n" for r in records))


class TestOfAToyRun:
    def test_every_figure_is_confirmed(self, kept):
        done = audit(kept, result_log(kept, 1), *TOYS, "--replay")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "REFUTED" not in done.stdout
        assert done.stdout.splitlines()[-1].startswith("CONFIRMED: 18 claims of ")
        for what in ("epoch 2 hits", "epoch 2 NDCG", "evaluation lists", "first batch", "split"):
            assert f"\n{what} " in "\n" + done.stdout, what

    def test_without_a_checkpoint_the_first_epoch_can_be_replayed(self, copy):
        folder, log, checkpoint = copy
        checkpoint.unlink()
        done = audit(folder, log, *TOYS)
        assert done.returncode == 1 and "--keep_checkpoint" in done.stderr
        done = audit(folder, log, *TOYS, "--replay")
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize(
        "key, which, edit, what",
        [
            ("eval_accuracy", -1, lambda r: r.update(value=0.205), "epoch 2 hit rate"),
            ("eval_ndcg", -1, lambda r: r.update(value=0.1000001), "epoch 2 NDCG"),
            ("eval_stop", -1, lambda r: r["metadata"].update(hits=41), "epoch 2 hits"),
            ("dataset_digest", 0, lambda r: r.update(value="0" * 64), "split"),
            ("data_digests", 0, lambda r: r["value"].update(first_epoch="0" * 64), "first epoch"),
            ("checkpoint", 0, lambda r: r.update(value="0" * 64), "checkpoint"),
            ("seed", 0, lambda r: r.update(value=r["value"] + 1), "evaluation lists"),
        ],
    )
    def test_a_changed_figure_is_refuted(self, copy, key, which, edit, what):
        folder, log, _ = copy
        change(log, key, which, edit)
        done = audit(folder, log, *TOYS)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].startswith("REFUTED: ")
        assert what in done.stdout.splitlines()[-1]

    @pytest.mark.parametrize("theirs", ["", "0" * 64])
    def test_a_refutation_names_another_source(self, copy, theirs):
        folder, log, _ = copy
        change(log, "data_digests", 0, lambda r: r["value"].update(first_epoch="0" * 64))
        if theirs:
            change(log, "source", 0, lambda r: r.update(value=theirs))
        done = audit(folder, log, *TOYS)
        assert done.returncode == 2, done.stdout + done.stderr
        assert ("another source may draw other batches" in done.stdout) == bool(theirs)

    def test_a_replay_refutes_the_first_epochs_loss(self, copy):
        folder, log, _ = copy
        change(log, "epoch_stop", 0, lambda r: r["metadata"].update(loss=0.5))
        done = audit(folder, log, *TOYS, "--replay")
        assert done.returncode == 2 and "replayed epoch 1 loss" in done.stdout.splitlines()[-1]

    def test_weights_of_another_run_are_refuted(self, copy):
        folder, log, checkpoint = copy
        checkpoints.save(checkpoint, {"epochs": np.ones(1, np.float32)}, None)
        done = audit(folder, log, *TOYS)
        assert done.returncode == 2
        assert "epoch 2 hits" in done.stdout.splitlines()[-1]

    @pytest.mark.parametrize("damage", [b"", b"no archive", None])
    def test_an_unreadable_checkpoint_is_exit_code_3(self, copy, damage):
        folder, log, checkpoint = copy
        data = checkpoint.read_bytes()
        checkpoint.write_bytes(data[: len(data) // 2] if damage is None else damage)
        done = audit(folder, log, *TOYS)
        assert done.returncode == 3 and len(done.stderr.splitlines()) == 1

    def test_a_log_decides_neither_the_track_file_nor_the_code_that_runs(self, kept):
        log = result_log(kept)
        for flags, word in (((), "--track"), (TOYS[:1], "--engine")):
            done = audit(kept, log, *flags)
            assert done.returncode == 1 and word in done.stderr
            assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize(
        "flags, said",
        [
            (("--batch_size=3",), "--batch_size cannot be given with --audit"),
            (("--audit=no/such/file",), "does not exist"),
            (("--audit=tests",), "is a folder"),
            (("--device=tpu",), "TPU"),
            (("--engine=reference", "--replay"), "the log's own engine"),
        ],
    )
    def test_wrong_usage_is_one_line_and_exit_code_1(self, kept, flags, said):
        log = result_log(kept)
        done = audit(kept, log, *TOYS, *flags)
        assert done.returncode == 1, done.stdout
        assert said in done.stderr and len(done.stderr.splitlines()) == 1


ELSEWHERE = {
    "threads": lambda r: r[index_of(r, "device")]["metadata"].update(threads=999),
    "device": lambda r: r[index_of(r, "device")]["metadata"].update(name="another"),
    "versions": lambda r: r[index_of(r, "versions")]["value"].update(numpy="0.1"),
}


class TestOfARunMadeElsewhere:
    """With other threads, devices or libraries, figures may differ within the tolerance."""

    @pytest.mark.parametrize(
        "where, hits, loss, code",
        [
            ("threads", 2, 1.0009, 0), ("threads", 3, 1.0, 2), ("threads", 0, 1.0011, 2),
            pytest.param("device", 2, 1.0, 0, marks=pytest.mark.slow),
            pytest.param("versions", 2, 1.0, 0, marks=pytest.mark.slow),
            pytest.param(None, 0, 1.0000001, 2, marks=pytest.mark.slow),
        ],
    )  # fmt: skip
    def test_two_users_and_a_thousandth_of_the_loss_may_differ(self, copy, where, hits, loss, code):
        folder, log, _ = copy
        lines = log.read_text().splitlines()
        records = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
        ELSEWHERE.get(where, lambda r: None)(records)
        records[index_of(records, "seed")]["metadata"]["deterministic"] = True
        records[index_of(records, "eval_stop", -1)]["metadata"]["hits"] += hits
        records[index_of(records, "eval_accuracy", -1)]["value"] += hits / 200
        records[index_of(records, "epoch_stop", 0)]["metadata"]["loss"] *= loss
        log.write_text("".join(":::MLLOG " + json.dumps(r) + "\n" for r in records))
        done = audit(folder, log, *TOYS, "--replay")
        assert done.returncode == code, done.stdout + done.stderr
        said = "of them within the tolerance for other hardware" if code == 0 else "REFUTED: "
        assert said in done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def v05(tmp_path_factory):
    """A toy run in the v0.5 dialect, with its checkpoint."""
    folder = tmp_path_factory.mktemp("v05")
    flags = ("--target=0.2", "--num_runs=1", "--keep_checkpoint", "--log_format=v0.5")
    assert harness(folder, TOY, *flags).returncode == 0
    return folder


class TestOfALogInTheDialectOfV05:
    def test_every_figure_is_confirmed(self, v05):
        done = audit(v05, result_log(v05), *TOYS, "--replay")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].startswith("CONFIRMED: 18 claims of ")

    @pytest.mark.parametrize(
        "old, new, what",
        [
            ('{"epoch": 1, "value": 0.2}', '{"epoch": 1, "value": 0.205}', "epoch 2 hit rate"),
            pytest.param('{"epoch": 1, "value": 20000}', '{"epoch": 1, "value": 20001}',
                         "epoch 2 pairs", marks=pytest.mark.slow),
            pytest.param("eval_hp_num_users: 200", "eval_hp_num_users: 201", "epoch 2 users",
                         marks=pytest.mark.slow),
        ],
    )  # fmt: skip
    def test_values_of_v05_tags_are_compared(self, v05, tmp_path, old, new, what):
        shutil.copytree(v05, tmp_path / "copy")
        log = result_log(tmp_path / "copy")
        text = log.read_text()
        assert old in text
        log.write_text(text.replace(old, new))
        done = audit(tmp_path / "copy", log, *TOYS)
        assert done.returncode == 2, done.stdout + done.stderr
        assert what in done.stdout.splitlines()[-1]

    @pytest.mark.parametrize(
        "tag, value",
        [
            ("run_set_random_seed", "5"), ("mllog", '{"key": "seed", "value": 5, "metadata": {}}'),
            ("eval_hp_num_users", "7"), ("eval_size", '{"epoch": 1, "value": 5}'),
            ("eval_size", "[]"), ("eval_accuracy", '{"epoch": null, "value": 1}'),
            ("opt_name", "[]"), ("run_stop", '{"success": true}'),
        ],
    )  # fmt: skip
    def test_a_log_that_contradicts_itself_cannot_be_audited(self, v05, tmp_path, tag, value):
        log = result_log(v05)
        read_claims(log)
        more = f":::MLPv0.5.0 ncf 1.0 (a.py:1) {tag}: {value}\n"
        (tmp_path / "log.txt").write_text(log.read_text() + more)
        with pytest.raises(UnreadableLogError):
            read_claims(tmp_path / "log.txt")


def test_an_engine_without_optional_methods_runs_and_has_no_digests(tmp_path):
    bare = "--engine=tests.support.runs.toy_engine:BareToyEngine"
    done = harness(tmp_path, bare, "--target=0.1", "--num_runs=1", "--keep_checkpoint")
    assert done.returncode == 0, done.stdout + done.stderr
    log = result_log(tmp_path)
    assert "data_digests" not in log.read_text()
    assert "run 1/1: no checkpoint: the engine has no get_weights" in done.stdout
    assert audit(tmp_path, log, f"--track={TRACK}", bare).returncode == 1
    assert audit(tmp_path, log, f"--track={TRACK}", bare, "--replay").returncode == 0


@pytest.fixture(scope="module", params=[
    "fused", pytest.param("reference", marks=pytest.mark.slow)
])
def trained(tmp_path_factory, request):
    """One deterministic run of one of our engines on CPU, with its checkpoint."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("trained")
    harness(folder, "--seed=5", "--num_runs=1", "--target=1", "--max_epochs=2",
            "--keep_checkpoint", f"--engine={request.param}")  # fmt: skip
    return folder


class TestOfOurEngines:
    """A deterministic run on a CPU gives the same bits in another process."""

    def test_every_figure_is_confirmed_to_the_last_digit(self, trained):
        log = result_log(trained)
        done = audit(trained, log, TOYS[0], "--replay")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1].endswith("to the last digit")
        for what in ("first batch", "first epoch", "evaluation lists", "replayed epoch 1 loss",
                     "replayed epoch 1 hit rate", "epoch 2 hit rate"):  # fmt: skip
            assert f"\n{what} " in "\n" + done.stdout, what

    @pytest.mark.slow
    def test_changed_weights_are_refuted(self, trained, tmp_path):
        shutil.copytree(trained, tmp_path / "copy")
        path = result_log(tmp_path / "copy").parent / "checkpoints" / "result_0.npz"
        with np.load(path) as archive:
            weights = {name: archive[name] for name in archive.files}
        lists = weights.pop(checkpoints.LISTS_MEMBER).tobytes().decode()
        checkpoints.save(path, {k: v * 0.5 for k, v in weights.items()}, lists)
        log = result_log(tmp_path / "copy")
        done = audit(tmp_path / "copy", log, TOYS[0])
        assert done.returncode == 2 and "checkpoint" in done.stdout.splitlines()[-1]


OWN_ENGINE = "reference_model.keras_engine.engine:ReferenceEngine"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """One run of the Keras engine under the name of its class, like a user's own engine."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("own")
    harness(folder, "--seed=5", "--num_runs=1", "--target=1", "--max_epochs=2",
            "--keep_checkpoint", f"--engine={OWN_ENGINE}")  # fmt: skip
    return folder


@pytest.mark.slow
class TestOfAnotherEngine:
    """The log of an engine that is not part of this project."""

    def test_the_built_in_engine_evaluates_it(self, own):
        done = audit(own, result_log(own), TOYS[0])
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"by the built-in engine fused, not by {OWN_ENGINE}\n" in done.stdout
        assert "word" not in done.stdout and done.stdout.splitlines()[-1].startswith("CONFIRMED: ")

    def test_an_engine_that_the_user_names_is_taken_at_its_word(self, own):
        done = audit(own, result_log(own), TOYS[0], f"--engine={OWN_ENGINE}", "--replay")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"the engine {OWN_ENGINE}, whose word was taken; python -m " in done.stdout
        assert done.stdout.splitlines()[-1].endswith(f", by the word of {OWN_ENGINE}")


class TestClaims:
    def test_programs_choose_the_runtime_unless_it_is_given(self, tmp_path):
        claims = read_claims(write_log(tmp_path / "a.txt", good_log()))
        assert harness_flags(claims, {})["runtime"] == "tensorflow"
        assert harness_flags(claims, {"programs": "x"})["runtime"] == "auto"
        assert harness_flags(claims, {"programs": "x", "runtime": "pjrt"})["runtime"] == "pjrt"

    @pytest.mark.parametrize(
        "edit",
        [
            lambda r: r.pop(index_of(r, "run_stop")),
            lambda r: r.pop(index_of(r, "seed")),
            lambda r: r.insert(0, r[index_of(r, "seed")]),
            lambda r: r[index_of(r, "seed")].update(value="1"),
            lambda r: r[index_of(r, "epoch_stop")]["metadata"].pop("epoch_num"),
            lambda r: r[index_of(r, "epoch_stop", 1)]["metadata"].update(epoch_num=1),
            lambda r: r[index_of(r, "global_batch_size")].update(value=2**31),
            lambda r: r[index_of(r, "eval_batch_size")].update(value=10**12),
            lambda r: r[index_of(r, "seed")].update(value=2**70),
            lambda r: r[index_of(r, "opt_name")].update(value="os.system"),
            lambda r: r[index_of(r, "precision")].update(value="x"),
        ],
        ids=range(11),
    )
    def test_an_invalid_log_is_unreadable(self, tmp_path, edit):
        records = good_log()
        harness_flags(read_claims(write_log(tmp_path / "good.txt", records)), {})
        edit(records)
        with pytest.raises(UnreadableLogError):
            harness_flags(read_claims(write_log(tmp_path / "bad.txt", records)), {})

    def test_other_dialects_and_other_files_are_unreadable(self, tmp_path):
        with pytest.raises(UnreadableLogError):
            read_claims(ROOT / "tests/data/good/v05_level2.txt")
        (tmp_path / "x.txt").write_bytes(b"\x00" * 100)
        with pytest.raises(UnreadableLogError):
            read_claims(tmp_path / "x.txt")

    @pytest.mark.parametrize("key, value", [("track", "/etc/x.yaml"), ("engine", "os:system")])
    def test_a_track_file_or_an_engine_is_never_taken_from_a_log(self, tmp_path, key, value):
        records = good_log()
        records[index_of(records, key)]["value"] = value
        with pytest.raises(MissingFlagError):
            harness_flags(read_claims(write_log(tmp_path / "a.txt", records)), {})
