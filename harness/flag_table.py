"""The flags of `python -m harness` as data, and their help page.

Only the standard library is imported, so that `--help` needs no environment.
"""

from __future__ import annotations

from typing import NamedTuple


class Flag(NamedTuple):
    """One flag.

    Attributes:
      name: Without the dashes.
      kind: string, integer, float or boolean.
      help: One short line, with the default in parentheses.
    """

    name: str
    kind: str
    help: str


# In the order of the help page: the title of a group and its flags.
FLAG_GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    (
        "What is run",
        (
            Flag("track", "string", "built-in track or a track file (ml-100k)"),
            Flag("new_track", "string", "write the track file of a ratings file, then stop"),
            Flag("columns", "string", "with --new_track: user=A,item=B,timestamp=C"),
            Flag("num_runs", "integer", "runs in the set (the track's)"),
            Flag("division", "string", "closed | open (closed)"),
            Flag("seed", "integer", "base of the trial seeds; makes the set open"),
            Flag("target", "float", "HR@K to reach; open division only"),
            Flag("max_epochs", "integer", "epoch cap; closed may only lower it"),
            Flag("org", "string", "submitting organisation (unknown)"),
        ),
    ),
    (
        "Where things are",
        (
            Flag("data_dir", "string", "datasets and caches (~/.cache/neumf-bench)"),
            Flag("results_dir", "string", "logs and reports (results)"),
            Flag("system", "string", "name of this system (from the machine)"),
            Flag("name", "string", "makes an experiment, with this in its folder's name"),
            Flag("profile_dir", "string", "write a TensorFlow profile; unscored"),
            Flag("tensorboard_dir", "string", "write HR, NDCG, loss, examples/s by epoch"),
        ),
    ),
    (
        "How it trains",
        (
            Flag("engine", "string", "fused (default) | reference | module:Class"),
            Flag("input", "string", "generated (default) | shards | timed_shards"),
            Flag("synthetic_batches", "boolean", "train on made-up batches; unscored"),
            Flag("precision", "string", "float32 | tf32 (GPUs) | bfloat16"),
            Flag("batch_size", "integer", "examples in a step, all devices"),
            Flag("eval_batch_size", "integer", "scored pairs in a step, whole users"),
            Flag("optimizer", "string", "adam | lazy_adam"),
            Flag("learning_rate", "float", ""),
            Flag("beta1", "float", ""),
            Flag("beta2", "float", ""),
            Flag("epsilon", "float", ""),
        ),
    ),
    (
        "Where it trains",
        (
            Flag("device", "string", "auto | cpu | gpu | tpu | another TensorFlow has"),
            Flag("num_devices", "integer", "devices of this machine to use (all)"),
            Flag("strategy", "string", "auto|one_device|mirrored|multi_worker_mirrored|tpu"),
            Flag("tpu", "string", "a TPU's name or grpc address, or local"),
            Flag("tpu_zone", "string", "zone of the TPU that --tpu names"),
            Flag("tpu_project", "string", "project of the TPU that --tpu names"),
            Flag("intra_op_threads", "integer", "threads inside an operation (TensorFlow's)"),
            Flag("inter_op_threads", "integer", "operations side by side (TensorFlow's)"),
        ),
    ),
    (
        "How the set is made",
        (
            Flag("resume", "boolean", "complete an unfinished set"),
            Flag("overwrite", "boolean", "set an unfinished set aside, start anew"),
            Flag("prepare_only", "boolean", "get and preprocess the data, then stop"),
            Flag("keep_checkpoint", "boolean", "keep the final weights, for --audit"),
            Flag("clear_caches", "string", "auto | require | skip (auto)"),
            Flag("log_format", "string", "mllog | v0.5 (mllog)"),
            Flag("quiet", "boolean", "only the table and the verdict"),
        ),
    ),
    (
        "What is found out about a result",
        (
            Flag("audit", "string", "confirm or refute a result log; see SECURITY.md"),
            Flag("replay", "boolean", "with --audit: train its first epoch again"),
        ),
    ),
)


def all_flags() -> list[Flag]:
    """All flags, in the order of the help page."""
    return [flag for _, group in FLAG_GROUPS for flag in group]


def help_text() -> str:
    """Returns the `--help` page: every flag in its group, defaults in parentheses."""
    lines = [
        "Trains NeuMF to its target hit rate several times, timed and logged, then",
        "checks and scores the logs.",
        "",
        "usage: python -m harness [--flag=value ...]",
    ]
    for title, group in FLAG_GROUPS:
        lines += ["", f"{title}:"]
        for flag in group:
            name = f"--{flag.name}" + ("" if flag.kind == "boolean" else "=")
            lines.append(f"  {name:<19} {flag.help}".rstrip())
    lines += [
        "",
        "Others: --flagfile=FILE (flags, one a line), --help,",
        "--print-completion=bash|zsh|tcsh (what the shell completes with).",
        "Flags without a default here take the track's.",
        "Exit codes: 0 PASS or valid, 1 usage or internal error, 2 FAIL,",
        "3 interrupted (go on with --resume).",
        "",
        "Examples:",
        "  python -m harness                            the whole set on ml-100k",
        "  python -m harness --track=ml-1m --num_runs=1 one run, unscored",
        "  python -m harness --batch_size=8192 --learning_rate=0.005",
    ]
    return "\n".join(lines)
