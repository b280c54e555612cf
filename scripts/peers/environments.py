"""The Pythons that the peers run in, and the dataset in the model garden's format.

`ours` and `keras` run in this project's environment. The model garden gets one of its
own under `.peers`: pandas below 3, and the versions of TensorFlow, Keras and numpy
that this project runs with, so that what differs is the program. It is installed
without its dependencies, which are many and enormous; what its recommendation model
really imports is in `MODEL_GARDEN_NEEDS`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from harness.base.machine import PROJECT_ROOT
from harness.processes.trial_process import child_environment
from reference_model.base.atomic_files import replacing
from reference_model.data.split import Split

FOLDER = PROJECT_ROOT / ".peers"

# The same as the extra `peers` in pyproject.toml. pip can install that extra as it
# stands, with all of the model garden's dependencies and the older TensorFlow that
# it asks for, in an environment of its own.
MODEL_GARDEN = "tf-models-official==2.20.0"
MODEL_GARDEN_NEEDS = ("pandas>=2.1,<3", "six>=1.16", "absl-py>=2.0")
_MODULES = ("numpy", "tensorflow", "tf_keras", "official", "pandas", "six", "absl")


class PeerError(Exception):
    """A peer that cannot be run; the message is one line for the user."""


def tensorflow_package() -> tuple[str, str]:
    """(package, version) of the TensorFlow that this project runs with."""
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    raise PeerError(
        "this Python has no TensorFlow, which the peers ours and keras need; install the "
        "extra cpu (pip install '.[cpu]'), or use scripts/peers.sh"
    )


def requirements() -> tuple[list[str], list[str]]:
    """What the model garden's environment gets: (with, without) dependencies."""
    package, version = tensorflow_package()
    shared = [f"{name}=={metadata.version(name)}" for name in ("keras", "numpy")]
    tf_keras = f"tf-keras~={'.'.join(version.split('.')[:2])}.0"
    return [f"{package}=={version}", *shared, *MODEL_GARDEN_NEEDS], [tf_keras, MODEL_GARDEN]


def environment(peer: str) -> dict[str, str]:
    """Environment variables of a peer's process: those of a trial, on the CPU."""
    variables = {**child_environment(), "CUDA_VISIBLE_DEVICES": "-1"}
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if peer == "model-garden":
        variables["TF_USE_LEGACY_KERAS"] = "1"
    return variables


def python_of(peer: str, model_garden_python: str | None, folder: Path = FOLDER) -> str:
    """The Python that runs a peer; makes the model garden's if need be.

    Raises PeerError where it is missing or lacks modules.
    """
    tensorflow_package()
    if peer != "model-garden":
        return sys.executable
    if model_garden_python is None:
        return _made(folder / "model-garden")
    python = shutil.which(model_garden_python)
    if python is None:
        raise PeerError(
            f"--model_garden_python={model_garden_python} is not a program; leave the flag "
            "out to have an environment made, or choose --peers=keras,ours"
        )
    _check_modules(python, "--model_garden_python=" + model_garden_python)
    return python


def _check_modules(python: str, called: str) -> None:
    code = (
        "import importlib.util, sys\n"
        "print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
    )
    done = subprocess.run(
        [python, "-c", code, *_MODULES], capture_output=True, text=True, check=False
    )
    if done.returncode or done.stdout.strip():
        lacks = done.stdout.strip() or "everything: it does not run"
        raise PeerError(
            f"{called} lacks the modules: {lacks}; leave model-garden out "
            "(--peers=keras,ours), or see scripts/peers/environments.py for what it needs"
        )


def _made(venv: Path) -> str:
    """The Python of the model garden's environment, which is made where it is not there."""
    python, stamp = venv / "bin" / "python", venv / ".stamp"
    with_needs, without = requirements()
    wanted = json.dumps([sys.version, with_needs, without])
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    log = venv.parent / "set-up.log"
    print(f"peers: setting up {venv}; this happens once and takes minutes", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    steps = ([sys.executable, "-m", "venv", str(venv)], [*pip, *with_needs],
             [*pip, "--no-deps", *without])  # fmt: skip
    with log.open("w") as output:
        for step in steps:
            done = subprocess.run(
                step, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
            if done.returncode:
                raise PeerError(
                    f"cannot set up {venv}: {_last_error(log)} (pip's output: {log}); leave "
                    "model-garden out with --peers=keras,ours"
                )
    _check_modules(str(python), str(venv))
    stamp.write_text(wanted)
    return str(python)


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if "error" in line.lower()]
    return lines[-1][:160] if lines else "pip failed"


def garden_data(split: Split, python: str, folder: Path = FOLDER) -> Path:
    """The folder with the split as the model garden's `ml-1m/ratings.csv` and its cache.

    It numbers users and items by first appearance, and holds out a user's latest
    rating. So users and items go in as they are numbered here, in the order of the
    split, and the held-out item gets the latest time: it then has the very same
    split, which its process checks by the digest.
    """
    place = folder / "data" / split.digest[:16]
    csv, done_note = place / "ml-1m" / "ratings.csv", place / "prepared"
    if done_note.exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    user = np.concatenate([split.train_user, np.arange(split.num_users, dtype=np.int32)])
    item = np.concatenate([split.train_item, split.test_item])
    time = np.where(np.arange(len(user)) < split.num_positives, item, split.num_items)
    rows = np.stack([user, item, np.ones_like(user), time.astype(np.int32)], axis=1)
    rows = rows[np.lexsort((item, user))]
    with replacing(csv) as file:
        file.write(b"user_id,item_id,rating,timestamp\n")
        np.savetxt(file, rows, fmt="%d", delimiter=",")
    log = place / "prepare.log"
    with log.open("w") as output:
        done = subprocess.run(
            [python, "-m", "scripts.peers.model_garden", f"--prepare={place}"],
            env=environment("model-garden"), stdout=output, stderr=output, check=False,
        )  # fmt: skip
    if done.returncode:
        raise PeerError(f"the model garden cannot read the ratings; its output is in {log}")
    done_note.write_text("")
    return place
