"""The flags of `python -m harness` as data, and their help page.

The module imports only the standard library, so that `--help` needs no environment.
"""

from __future__ import annotations

from typing import NamedTuple


class Flag(NamedTuple):
    """One flag.

    Attributes:
      name: The name without dashes.
      kind: string, integer, float or boolean.
      help: One short line, with the default in parentheses.
    """

    name: str
    kind: str
    help: str


# (Title of a group, its flags), in the order of the help page.
FLAG_GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    (
        "Benchmark",
        (
            Flag("track", "string", "built-in track or a track file (ml-100k)"),
            Flag("new_track", "string", "write a track file for a ratings file, then stop"),
            Flag("columns", "string", "with --new_track: user=A,item=B,timestamp=C"),
            Flag("num_runs", "integer", "runs in the set (from the track)"),
            Flag("division", "string", "closed | open (closed)"),
            Flag("seed", "integer", "base of the trial seeds; makes the set open"),
            Flag("target", "float", "HR@K to reach; requires --division=open"),
            Flag("max_epochs", "integer", "epoch cap; the closed division may only lower it"),
            Flag("org", "string", "submitting organization (unknown)"),
        ),
    ),
    (
        "Paths and names",
        (
            Flag("data_dir", "string", "datasets and caches (~/.cache/neumf-bench)"),
            Flag("results_dir", "string", "logs and reports (results)"),
            Flag("system", "string", "name of this system (derived from the machine)"),
            Flag("name", "string", "name of an experiment; of the file with --new_track"),
            Flag("profile_dir", "string", "write a TensorFlow profile; unscored"),
            Flag("tensorboard_dir", "string", "write HR, NDCG, loss, examples/s per epoch"),
        ),
    ),
    (
        "Training",
        (
            Flag("engine", "string", "fused (default) | reference | module:Class"),
            Flag("runtime", "string", "auto (default) | tensorflow | pjrt"),
            Flag("programs", "string", "run the programs in this folder, by pjrt"),
            Flag("export", "string", "write the programs to this folder, then stop"),
            Flag("program_cache", "string", "auto (default) | off | folder of compiled programs"),
            Flag("input", "string", "generated (default) | shards | timed_shards"),
            Flag("synthetic_batches", "boolean", "train on synthetic batches; unscored"),
            Flag("precision", "string", "float32 | tf32 (GPUs) | bfloat16"),
            Flag("batch_size", "integer", "examples per step over all devices"),
            Flag("eval_batch_size", "integer", "scored pairs per step, rounded up to whole users"),
            Flag("optimizer", "string", "adam | lazy_adam"),
            Flag("learning_rate", "float", ""),
            Flag("beta1", "float", ""),
            Flag("beta2", "float", ""),
            Flag("epsilon", "float", ""),
        ),
    ),
    (
        "Devices",
        (
            Flag("device", "string", "auto | cpu | gpu | tpu | other type of the runtime"),
            Flag("num_devices", "integer", "devices of this machine to use (all)"),
            Flag("strategy", "string", "auto|one_device|mirrored|multi_worker_mirrored|tpu"),
            Flag("tpu", "string", "TPU name, gRPC address, or local"),
            Flag("tpu_zone", "string", "zone of the TPU that --tpu names"),
            Flag("tpu_project", "string", "project of the TPU that --tpu names"),
            Flag("intra_op_threads", "integer", "threads per operation (TensorFlow's default)"),
            Flag("inter_op_threads", "integer", "concurrent operations (TensorFlow's default)"),
        ),
    ),
    (
        "Execution",
        (
            Flag("resume", "boolean", "complete an unfinished set"),
            Flag("overwrite", "boolean", "move an unfinished set aside and start a new one"),
            Flag("prepare_only", "boolean", "download and preprocess the data, then stop"),
            Flag("keep_checkpoint", "boolean", "keep the final weights, for --audit"),
            Flag("clear_caches", "string", "auto | require | skip (auto)"),
            Flag("log_format", "string", "mllog | v0.5 (mllog)"),
            Flag("doctor", "boolean", "say whether this machine is fit to measure on, then stop"),
            Flag("quiet", "boolean", "print only the table and the verdict"),
        ),
    ),
    (
        "Tuning",
        (
            Flag("tune", "boolean", "look for the settings with the least time to the target"),
            Flag("minutes", "float", "with --tune: time of this call (30)"),
            Flag("max_trials", "integer", "with --tune: most trials of this call"),
        ),
    ),
    (
        "Audit",
        (
            Flag("audit", "string", "audit a result log; see SECURITY.md"),
            Flag("replay", "boolean", "with --audit: train the log's first epoch again"),
        ),
    ),
)


def all_flags() -> list[Flag]:
    """All flags, in the order of the help page."""
    return [flag for _, group in FLAG_GROUPS for flag in group]


def help_text(program: str = "python -m harness") -> str:
    """Returns the `--help` page: every flag in its group, defaults in parentheses.

    Args:
      program: The command as the user called it.
    """
    lines = [
        "Trains NeuMF to its target hit rate several times, timed and logged, then",
        "checks and scores the logs.",
        "",
        f"usage: {program} [--flag=value ...]",
    ]
    for title, group in FLAG_GROUPS:
        lines += ["", f"{title}:"]
        for flag in group:
            name = f"--{flag.name}" + ("" if flag.kind == "boolean" else "=")
            lines.append(f"  {name:<19} {flag.help}".rstrip())
    lines += [
        "",
        "Other flags: --flagfile=FILE (one flag per line), --help,",
        "--print-completion=bash|zsh|tcsh (print a completion script).",
        "Training settings without a default here come from the track.",
        "Exit codes: 0 PASS, valid or fit, 1 usage or internal error, 2 FAIL or not fit,",
        "3 interrupted (continue with --resume); with --audit also: unreadable.",
        "",
        "Examples:",
        f"  {program}  (a complete set on ml-100k)",
        f"  {program} --track=ml-1m --num_runs=1  (one run, unscored)",
        f"  {program} --batch_size=8192 --learning_rate=0.005",
        f"  {program} --tune --track=ml-1m --minutes=60  (docs/tuning.md)",
    ]
    return "\n".join(lines)
