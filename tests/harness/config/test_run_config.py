"""Flags become a frozen configuration; invalid flags are refused by name."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from compliance.tracks import load_track
from compliance.tracks import track as tracks
from harness.__main__ import main
from harness.config.run_config import ConfigError, RunConfig, make_config
from harness.flag_table import FLAG_GROUPS, help_text
from harness.devices.runtime import choose_runtime
from harness.flags import parse_flags
from reference_model.base.config import OPTIMIZERS
from tests.support.paths import DATA, ROOT

TINY = str(DATA / "tiny-track.yaml")
CONTRACT_FLAGS = """track new_track columns num_runs data_dir results_dir system seed device num_devices tpu
tpu_zone tpu_project intra_op_threads inter_op_threads input synthetic_batches strategy engine precision batch_size eval_batch_size learning_rate beta1 beta2 epsilon
optimizer max_epochs target division clear_caches log_format resume overwrite prepare_only doctor
profile_dir tensorboard_dir keep_checkpoint org name quiet audit replay runtime programs export
program_cache tune minutes max_trials""".split()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(*flags: str) -> RunConfig:
    return make_config(parse_flags(["--system=sys", *flags]))


def refusal(*flags: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(*flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestFlags:
    def test_every_flag_of_the_contract_exists(self):
        assert sorted(f.name for _, group in FLAG_GROUPS for f in group) == sorted(CONTRACT_FLAGS)

    def test_help_names_each_flag_once_within_80_columns(self):
        text = help_text()
        assert all(text.count(f"--{name}") >= 1 for name in CONTRACT_FLAGS)
        assert max(map(len, text.splitlines())) <= 80
        assert len(text.splitlines()) <= 84

    @pytest.mark.parametrize("word", ["--help", "-h", "-help"])
    def test_help_exits_with_0(self, word, capsys):
        assert main([word]) == 0
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        "argv",
        [
            ["--no_such_flag"], ["left", "over"], ["--num_runs=many"], ["--learning_rate="],
            ["--track"], ["--", "left"], ["--flagfile=no/such/file"], ["--resume=perhaps"],
        ],
    )  # fmt: skip
    def test_a_wrong_command_line_is_one_line_and_exit_code_1(self, argv, capsys):
        assert main(argv) == 1
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1

    def test_flagfile(self, tmp_path):
        (tmp_path / "flags").write_text("--num_runs=3\n# a remark\n--quiet\n")
        made = config(f"--flagfile={tmp_path / 'flags'}", "--num_runs=4")
        assert (made.num_runs, made.quiet) == (4, True)

    def test_importing_defines_no_flag(self):
        code = "import harness.__main__, harness.launcher.run_set; from absl import flags;"
        code += "print(sorted(flags.FLAGS))"
        before = "from absl import flags, app, logging; print(sorted(flags.FLAGS))"
        run = [sys.executable, "-c"]
        ours = subprocess.run([*run, code], cwd=ROOT, capture_output=True, text=True, check=True)
        absl = subprocess.run([*run, before], cwd=ROOT, capture_output=True, text=True)
        assert set(eval(ours.stdout)) <= set(eval(absl.stdout))


class TestDefaults:
    def test_default_settings_are_the_tracks(self):
        made, track = config(), load_track("ml-100k")
        hyper = track.hyperparameters
        assert made.track_name == "ml-100k" and made.benchmark == "ncf-ml-100k"
        assert (made.num_runs, made.required_runs) == (track.runs, track.runs)
        assert (made.target, made.max_epochs) == (track.target, track.max_epochs)
        assert (made.batch_size, made.learning_rate) == (hyper.batch_size, hyper.learning_rate)
        assert (made.division, made.engine, made.strategy) == ("closed", "fused", "auto")
        assert made.base_seed is None and not made.deterministic

    @pytest.mark.parametrize("track, given, required", [
        ("ml-100k", 2, 5), ("ml-100k", 5, 5), ("ml-100k", 30, 30), ("ml-100k", 31, 31),
        ("ml-1m", 7, 7), (TINY, 2, 3), (TINY, 7, 3)])
    def test_a_larger_number_of_runs_is_required_of_every_log(self, track, given, required):
        """Otherwise the first runs of a larger set could be scored by themselves."""
        made = config(f"--track={track}", f"--num_runs={given}")
        assert (made.num_runs, made.required_runs) == (given, required)

    @pytest.mark.parametrize("flags, words", [
        ([], None), (["--num_runs=30"], None),
        (["--num_runs=4"], "4 runs, but a score takes 5 to 30"),
        (["--num_runs=31"], "31 runs, but a score takes 5 to 30"),
        (["--track=ml-1m", "--num_runs=1"], "1 run, but a score takes 5"),
        (["--log_format=v0.5"], "the rule of this dialect scores 100 runs of track ml-20m"),
        (["--track=ml-20m", "--log_format=v0.5"], None),
        (["--track=ml-20m", "--num_runs=5"], "5 runs, but a score takes 100"),
        (["--track=ml-20m-synthetic"], "has no target"),
        (["--synthetic_batches"], "reach no target"), ([f"--track={TINY}"], "is your own"),
        (["--num_runs=1", "--prepare_only"], None)])
    def test_a_set_that_can_have_no_score_is_announced(self, flags, words):
        notes = [note for note in config(*flags).notes if note.startswith("no score: ")]
        assert len(notes) == (words is not None) and all(words in note for note in notes)

    def test_folders_are_absolute(self, tmp_path):
        made = config()
        assert made.results_dir == str(tmp_path / "results")
        assert made.data_dir == str(tmp_path / "cache" / "neumf-bench")

    def test_ml_20m_results_are_of_benchmark_ncf(self):
        assert config("--track=ml-20m").benchmark == "ncf"

    def test_a_config_is_frozen_and_survives_json(self):
        made = config("--num_runs=2")
        assert RunConfig.from_json(made.to_json()) == made
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.num_runs = 3


class TestDivisions:
    def test_a_seed_makes_the_set_open_and_says_so(self):
        made = config("--seed=7")
        assert made.division == "open" and made.deterministic
        assert any("open division: --seed" in note for note in made.notes)
        assert any("an experiment and replaces no result" in note
                   for note in config("--division=open").notes)

    def test_a_track_file_is_open(self):
        assert config(f"--track={TINY}").division == "open"

    def test_generated_data_is_open(self):
        assert config("--track=ml-20m-synthetic").division == "open"

    @pytest.mark.parametrize(
        "flags", [["--seed=7"], [f"--track={TINY}"], ["--track=ml-20m-synthetic"]]
    )
    def test_settings_of_the_open_division_refuse_division_closed(self, flags):
        assert "--division=closed" in refusal("--division=closed", *flags)

    def test_a_target_needs_the_open_division(self):
        assert "open" in refusal("--target=0.1")
        assert config("--target=0.1", "--division=open").target == 0.1

    def test_closed_may_only_lower_the_cap(self):
        cap = load_track("ml-100k").max_epochs
        assert config(f"--max_epochs={cap - 1}").max_epochs == cap - 1
        assert "lower the cap" in refusal(f"--max_epochs={cap + 1}")
        assert config(f"--max_epochs={cap + 1}", "--division=open").max_epochs == cap + 1

    def test_closed_frees_the_hyperparameters(self):
        made = config("--batch_size=512", "--learning_rate=0.1", "--beta1=0", "--epsilon=1e-3")
        assert made.division == "closed" and made.batch_size == 512


class TestDevices:
    def test_naming_a_tpu_asks_for_one(self):
        made = config("--tpu=10.0.0.2:8470")
        assert (made.device, made.tpu) == ("tpu", "10.0.0.2:8470")
        assert config("--strategy=tpu").device == "tpu"

    def test_any_device_type_may_be_named(self):
        assert config("--device=XPU").device == "xpu"

    @pytest.mark.parametrize(
        "flags",
        [
            ["--device=cpu", "--tpu=local"], ["--strategy=mirrored", "--tpu=local"],
            ["--strategy=tpu", "--device=gpu"], ["--tpu_zone=europe-west4-a"],
            ["--tpu_project=mine"], ["--num_devices=2", "--strategy=one_device"],
            ["--device=../dev"], ["--intra_op_threads=0"], ["--inter_op_threads=-1"],
        ],
    )  # fmt: skip
    def test_contradicting_device_flags_are_refused_by_name(self, flags):
        assert flags[0].split("=")[0] in refusal(*flags)


def test_the_reference_engine_computes_in_float32_only():
    assert config("--precision=bfloat16").precision == "bfloat16"
    assert "--engine=reference" in refusal("--engine=reference", "--precision=bfloat16")


@pytest.mark.parametrize(
    "flags",
    [
        ["--track=no-such-track"], ["--track=no/such/file.yaml"], ["--device="], ["--input=tape"],
        ["--strategy=hope"], ["--precision=float8"], ["--engine=mine"], ["--optimizer=sgd"],
        ["--division=first"], ["--clear_caches=maybe"], ["--log_format=xml"], ["--num_runs=0"],
        ["--batch_size=-1"], ["--eval_batch_size=0"], ["--learning_rate=0"],
        ["--learning_rate=nan"], ["--beta1=1"], ["--beta2=-0.1"], ["--epsilon=inf"],
        ["--max_epochs=0"], ["--target=2", "--division=open"], ["--seed=-1"],
        ["--system=../up"], ["--system="], ["--org="], ["--resume", "--overwrite"],
        ["--results_dir="], ["--num_devices=0"], ["--batch_size=99999999999"],
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(flags):
    assert flags[0].split("=")[0] in refusal(*flags)


def test_a_results_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "not a folder" in refusal(f"--results_dir={tmp_path / 'file' / 'deeper'}")


def test_eval_batch_size_is_rounded_up_to_whole_users_with_a_note():
    made = config("--eval_batch_size=1500")
    assert made.eval_batch_size == 2000
    assert any("rounded up to 2000" in note for note in made.notes)


def test_a_custom_engine_is_accepted():
    assert config("--engine=vendor.fast:Engine").engine == "vendor.fast:Engine"


def test_tracks_and_engines_know_the_same_optimizers():
    """`compliance` and `reference_model` have separate lists, because neither imports the other."""
    assert tracks.OPTIMIZERS == OPTIMIZERS


class TestRuntime:
    """Combinations of --runtime, --programs and --export with other flags."""

    @pytest.mark.parametrize("flag", ["--runtime=pjrt", "--programs=here", "--export=here"])
    @pytest.mark.parametrize("other, said", [
        ("--engine=reference", "requires --engine=fused, not reference"),
        ("--strategy=mirrored", "runs on one device; remove --strategy=mirrored"),
        ("--tpu=my-tpu", "cannot use a TPU by its address"),
        ("--num_devices=2", "runs on one device; remove --num_devices=2"),
        ("--inter_op_threads=2", "use --intra_op_threads"),
        ("--precision=tf32", "with --precision=tf32 requires --device=gpu"),
    ])  # fmt: skip
    def test_what_pjrt_cannot_do_is_refused(self, flag, other, said):
        message = refusal(flag, other)
        assert message.startswith(flag.partition("=here")[0]) and said in message

    def test_contradictions_are_refused(self):
        assert "--programs requires --runtime=pjrt" in refusal("--programs=x", "--runtime=tensorflow")
        assert "cannot be combined" in refusal("--programs=x", "--export=y")

    def test_an_empty_folder_name_is_refused(self):
        assert refusal("--export=") == "--export is empty; name a folder"
        assert refusal("--programs=") == "--programs is empty; name a folder"

    def test_compiled_programs_are_kept_in_the_cache_folder_unless_told_otherwise(self, tmp_path):
        assert config().program_cache == str(tmp_path / "cache" / "neumf-bench" / "programs")
        assert config("--program_cache=off").program_cache is None
        assert config("--program_cache=here").program_cache == str(tmp_path / "here")
        assert "program_cache" not in config().shared_settings()

    def test_the_digest_of_the_programs_is_a_setting_and_their_path_is_not(self, tmp_path):
        (tmp_path / "manifest.json").write_text("{}")
        made = config(f"--programs={tmp_path}")
        digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        assert made.programs == str(tmp_path)
        assert made.shared_settings()["programs"] == digest

    @pytest.mark.parametrize("flags, runtime", [
        ([], "tensorflow"), (["--device=cpu"], "tensorflow"), (["--programs=here"], "pjrt"),
        (["--runtime=pjrt"], "pjrt"), (["--tpu=local"], "tensorflow"),
        (["--engine=reference"], "tensorflow"),
    ])  # fmt: skip
    def test_auto_is_tensorflow_on_cpus(self, flags, runtime, monkeypatch):
        monkeypatch.setattr("harness.base.machine.gpus", lambda: [])
        assert choose_runtime(config(*flags)) == runtime
