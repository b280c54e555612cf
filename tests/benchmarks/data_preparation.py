"""Measures loading and generating data of the shape of ml-20m; not part of the tests.

    python -m tests.benchmarks.data_preparation [FOLDER]

Writes a `ratings.csv` of 20,000,263 rows (540 MB) into FOLDER (default: a
temporary one), prepares it, loads the prepared split, and generates the
synthetic split, each in a fresh process; prints wall seconds and peak memory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from reference_model.data.prepare import PREPARED_FOLDER
from reference_model.data.synthetic import SyntheticShape, generate_split

SHAPE = {"num_users": 138_493, "num_items": 26_744, "num_ratings": 20_000_263, "seed": 1}
STEP = """
import json, re, sys, time
from reference_model.data.prepare import load_split, prepare_split
from reference_model.data.sources import DatasetSpec
name, folder, shape = sys.argv[1:]
if name == "generate":
    spec = DatasetSpec("made", kind="synthetic", synthetic=json.loads(shape))
else:
    spec = DatasetSpec("ml-20m", archive_member="ml-20m/ratings.csv")
start = time.perf_counter()
(load_split if name == "load" else prepare_split)(spec, folder)
seconds = time.perf_counter() - start
status = open("/proc/self/status").read()  # Linux; rusage would count the parent too
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 2**20
print(f"{name:9} {seconds:6.2f} s  {peak:5.2f} GiB")
"""


def write_csv(path: Path) -> None:
    """Writes the rows of a generated split, with ids and times spread as in the official file."""
    split = generate_split(SyntheticShape(**SHAPE))
    user = np.concatenate([split.train_user, np.arange(split.num_users)])
    item = np.concatenate([split.train_item, split.test_item])
    order = np.lexsort((item, user))
    rng = np.random.default_rng(0)
    movie = np.sort(rng.choice(131_262, split.num_items, replace=False)) + 1
    columns = (
        user[order] + 1,
        movie[item[order]],
        rng.integers(1, 11, len(user)) / 2,
        rng.integers(789_652_009, 1_427_784_002, len(user)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for start in range(0, len(user), 1 << 19):
            rows = zip(*(column[start : start + (1 << 19)].tolist() for column in columns))
            file.writelines(f"{u},{m},{r},{t}\n" for u, m, r, t in rows)


def main(folder: Path) -> None:
    path = folder / "ml-20m" / "ratings.csv"
    if not path.exists():
        write_csv(path)
    print(f"{path.stat().st_size:,} bytes")
    shutil.rmtree(folder / PREPARED_FOLDER, ignore_errors=True)
    for step in ("prepare", "load", "generate"):
        subprocess.run(
            [sys.executable, "-c", STEP, step, str(folder), json.dumps(SHAPE)], check=True
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
