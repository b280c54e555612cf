"""The Python environments of the peers, and the dataset in the model garden's format.

`ours` and `keras` run in this project's environment. The model garden has its own environment
under `.peers`, with pandas below 3 and with the same versions of TensorFlow, Keras and numpy
as this project, so that only the program differs. The model garden is installed without its
dependencies, which are many and large; `MODEL_GARDEN_NEEDS` lists the packages that its
recommendation model imports.
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
from harness.processes.child_process import child_environment
from reference_model.base.atomic_files import atomic_write
from reference_model.data.split import Split

# Environments, data and results of the comparison.
PEERS_FOLDER = PROJECT_ROOT / ".peers"

# The same as the extra `peers` in pyproject.toml. pip can also install that extra in a separate
# environment; it then installs all dependencies of the model garden and the older TensorFlow
# that they require.
MODEL_GARDEN = "tf-models-official==2.20.0"
MODEL_GARDEN_NEEDS = ("pandas>=2.1,<3", "six>=1.16", "absl-py>=2.0")
_NEEDED_MODULES = ("numpy", "tensorflow", "tf_keras", "official", "pandas", "six", "absl")


class PeerError(Exception):
    """A peer cannot be run; the message is one line for the user."""


def tensorflow_package() -> tuple[str, str]:
    """Returns (package, version) of the TensorFlow in this project's environment.

    Raises:
      PeerError: TensorFlow is not installed.
    """
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    raise PeerError(
        "this Python has no TensorFlow, which the peers ours and keras require; install the "
        "extra cpu (pip install '.[cpu]'), or use scripts/peers.sh"
    )


def garden_requirements() -> tuple[list[str], list[str]]:
    """Returns pip's requirements for the model garden's environment.

    Returns:
      (Requirements installed with their dependencies, requirements installed without.)
    """
    package, version = tensorflow_package()
    shared = [f"{name}=={metadata.version(name)}" for name in ("keras", "numpy")]
    tf_keras = f"tf-keras~={'.'.join(version.split('.')[:2])}.0"
    return [f"{package}=={version}", *shared, *MODEL_GARDEN_NEEDS], [tf_keras, MODEL_GARDEN]


def process_environment(peer: str) -> dict[str, str]:
    """Returns the environment variables of a peer's process: as for a trial, but CPU only."""
    variables = {**child_environment(), "CUDA_VISIBLE_DEVICES": "-1"}
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if peer == "model-garden":
        variables["TF_USE_LEGACY_KERAS"] = "1"
    return variables


def find_python(peer: str, model_garden_python: str | None, folder: Path = PEERS_FOLDER) -> str:
    """Finds the Python of a peer; creates the model garden's environment if necessary.

    Args:
      peer: One of PEERS.
      model_garden_python: The user's Python for the model garden, if given.
      folder: Folder in which the model garden's environment is created.

    Raises:
      PeerError: The Python does not exist or lacks modules.
    """
    tensorflow_package()
    if peer != "model-garden":
        return sys.executable
    if model_garden_python is None:
        return _ensure_garden_environment(folder / "model-garden")
    python = shutil.which(model_garden_python)
    if python is None:
        raise PeerError(
            f"--model_garden_python={model_garden_python} is not a program; leave the flag "
            "out to create an environment, or choose --peers=keras,ours"
        )
    _check_modules(python, "--model_garden_python=" + model_garden_python)
    return python


def _check_modules(python: str, name: str) -> None:
    """Raises PeerError if a Python lacks modules; `name` is its name in the message."""
    code = (
        "import importlib.util, sys\n"
        "print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
    )
    done = subprocess.run(
        [python, "-c", code, *_NEEDED_MODULES], capture_output=True, text=True, check=False
    )
    if done.returncode or done.stdout.strip():
        lacks = done.stdout.strip() or "all (it does not run)"
        raise PeerError(
            f"{name} lacks modules: {lacks}; leave model-garden out (--peers=keras,ours), or "
            "install the requirements in scripts/peers/environments.py"
        )


def _ensure_garden_environment(venv: Path) -> str:
    """Creates the model garden's environment if it is missing or stale; returns its Python."""
    python, stamp = venv / "bin" / "python", venv / ".stamp"
    with_needs, without = garden_requirements()
    # The stamp is written last. If it is missing or contains other versions, the environment is
    # created again.
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
    """Returns the last line of pip's output that contains "error"."""
    lines = [line for line in log.read_text().splitlines() if "error" in line.lower()]
    return lines[-1][:160] if lines else "pip failed"


def write_garden_data(split: Split, python: str, folder: Path = PEERS_FOLDER) -> Path:
    """Writes the split as the model garden's `ml-1m/ratings.csv` and creates its cache.

    The model garden numbers users and items by first appearance and holds out the latest rating
    of each user. Therefore users and items are written with the numbers and in the order of the
    split, and the held-out item gets the latest time. The model garden then has exactly the
    same split, which its process verifies by the digest.

    Args:
      split: The dataset.
      python: The model garden's Python.
      folder: The data is written to a subfolder of this folder.

    Returns:
      The model garden's data folder.

    Raises:
      PeerError: The model garden cannot read the ratings.
    """
    place = folder / "data" / split.digest[:16]
    csv, stamp = place / "ml-1m" / "ratings.csv", place / "prepared"
    if stamp.exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    user = np.concatenate([split.train_user, np.arange(split.num_users, dtype=np.int32)])
    item = np.concatenate([split.train_item, split.test_item])
    # Any time before that of the held-out item is valid; use the item number for training items.
    time = np.where(np.arange(len(user)) < split.num_positives, item, split.num_items)
    rows = np.stack([user, item, np.ones_like(user), time.astype(np.int32)], axis=1)
    rows = rows[np.lexsort((item, user))]
    with atomic_write(csv) as file:
        file.write(b"user_id,item_id,rating,timestamp\n")
        np.savetxt(file, rows, fmt="%d", delimiter=",")
    log = place / "prepare.log"
    with log.open("w") as output:
        done = subprocess.run(
            [python, "-m", "scripts.peers.model_garden", f"--prepare={place}"],
            env=process_environment("model-garden"), stdout=output, stderr=output, check=False,
        )  # fmt: skip
    if done.returncode:
        raise PeerError(f"the model garden cannot read the ratings; its output is in {log}")
    stamp.write_text("")
    return place
