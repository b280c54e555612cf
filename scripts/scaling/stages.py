"""Measures one stage of one size in this process: `stages.py STAGE SIZE FOLDER`.

The stage `make` generates the data and measures nothing.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

import numpy as np

from reference_model.data import split_file
from reference_model.data.split import MIN_RATINGS, Split, leave_one_out
from reference_model.data.synthetic import SyntheticShape, generate_split

# Sizes above ml-20m repeat the users of ml-20m with the same items, because the time to
# generate data grows with users x items.
SIZES = {
    "ml-100k": SyntheticShape(943, 1_682, 100_000),
    "ml-1m": SyntheticShape(6_040, 3_706, 1_000_209),
    "ml-20m": SyntheticShape(138_493, 26_744, 20_000_263, seed=2018),
    "100m": SyntheticShape(692_465, 26_744, 100_001_315, seed=2018),
    "ml-20m-x10": SyntheticShape(1_384_930, 26_744, 200_002_630, seed=2018),
}
# Repeated sizes: (base size, number of copies of its users).
REPEATED = {"100m": ("ml-20m", 5), "ml-20m-x10": ("ml-20m", 10)}
BATCH, NEGATIVES = 1_048_576, 4
SEED = 1


def main() -> None:
    """Runs the stage and prints one JSON line."""
    stage, size, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    shape = SIZES[size]
    if stage == "make":
        make_data(size, folder)
        return print("{}")
    measured = STAGES[stage](shape, folder)
    line = {"size": size, "stage": stage, **asdict(shape)}
    line["positives"] = shape.num_ratings - shape.num_users
    print(json.dumps({**line, **measured}))


# -- measuring ------------------------------------------------------------------------


def read_process_status(*names: str) -> list[int]:
    """Reads sizes from /proc/self/status.

    Args:
      names: Names such as VmHWM, the peak of the resident memory.

    Returns:
      Sizes in bytes, in the order of the names.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return [int(values[name].split()[0]) * 1024 for name in names]


def measure_call(work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Measures the time and the memory of a call.

    Args:
      work: The function; it is called once.

    Returns:
      (Measured values, the result of the call.) `peak_bytes` is the maximum growth of the
      resident memory during the call, including pages of mapped files, which the system can
      reclaim. `stays_bytes` is the growth after the call. `anonymous_bytes` is the growth
      after the call without mapped files. `process_peak_bytes` is the peak of the process.
    """
    # Do not use ru_maxrss, which a process inherits from its parent process.
    (peak_before,) = read_process_status("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    resident_before, anonymous_before = read_process_status("VmRSS", "RssAnon")
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak, resident, anonymous = read_process_status("VmHWM", "VmRSS", "RssAnon")
    return {
        "seconds": seconds,
        "peak_bytes": peak - resident_before,
        "stays_bytes": resident - resident_before,
        "anonymous_bytes": anonymous - anonymous_before,
        "process_peak_bytes": max(peak, peak_before),
    }, result


# -- stages ---------------------------------------------------------------------------


def make_data(size: str, folder: Path) -> None:
    """Writes the prepared split, and the raw ratings as arrays, unless they exist.

    Args:
      size: A key of SIZES.
      folder: Folder for `prepared.split` and `ratings.npz`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw, path = folder / "ratings.npz", folder / "prepared.split"
    if raw.exists():
        return
    source, copies = REPEATED.get(size, (size, 1))
    split = repeat_users(generate_split(SIZES[source]), copies)
    header = split_file.SplitHeader(
        size, "synthetic", split.num_users, split.num_items, split.num_positives, 0,
        split.digest, MIN_RATINGS, "generated", "0" * 64, 0, {},
    )  # fmt: skip
    arrays = [np.diff(split.row_starts), split.train_item, split.test_item]
    split_file.write_split_file(path, header, arrays)
    np.savez(raw, **raw_ratings(split))


def repeat_users(split: Split, copies: int) -> Split:
    """Creates a split with `copies` copies of every user, with the same items."""
    counts = np.tile(np.diff(split.row_starts), copies)
    users = np.arange(copies * split.num_users, dtype=np.int32)
    return Split(
        len(users),
        split.num_items,
        np.repeat(users, counts),
        np.tile(split.train_item, copies),
        np.tile(split.test_item, copies),
    )


def load_prepared(folder: Path) -> Split:
    """Loads the split as a run does."""
    return split_file.read_split_file(folder / "prepared.split")[1]


def raw_ratings(split: Split) -> dict[str, np.ndarray]:
    """Creates raw ratings from which `leave_one_out` creates the split.

    Returns:
      `user` and `item` int32 and `timestamp` int64, one entry per rating. Ratings are sorted
      by user, with the held-out item last; items are numbered by first appearance.
    """
    counts = np.diff(split.row_starts)
    # Positions of the held-out ratings: each user has one rating more than training positives.
    held_out = np.cumsum(counts + 1) - 1
    item = np.empty(split.num_positives + split.num_users, np.int32)
    is_positive = np.ones(len(item), bool)
    is_positive[held_out] = False
    item[is_positive], item[held_out] = split.train_item, split.test_item
    # Map the item ids of the split to numbers by first appearance.
    item_ids, first_positions = np.unique(item, return_index=True)
    number_by_item = np.zeros(split.num_items, np.int32)
    number_by_item[item_ids[np.argsort(first_positions)]] = np.arange(len(item_ids))
    users = np.arange(split.num_users, dtype=np.int32)
    timestamp = np.arange(len(item), dtype=np.int64)
    return {
        "user": np.repeat(users, counts + 1),
        "item": number_by_item[item],
        "timestamp": timestamp,
    }


def measure_split(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """Measures leave-one-out, with the raw ratings (16 bytes each) already in memory."""
    with np.load(folder / "ratings.npz") as raw:
        arrays = [raw[name] for name in ("user", "item", "timestamp")]
    measured, split = measure_call(lambda: leave_one_out(*arrays))
    assert split.num_positives == shape.num_ratings - shape.num_users
    return measured


def measure_load(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """Measures loading the prepared split, which recomputes its digest."""
    return measure_call(lambda: load_prepared(folder))[0]


def make_engine(shape: SyntheticShape, eval_negatives: int) -> Any:
    """Creates and compiles the fused engine with a model so small that sampling dominates."""
    from reference_model.base.config import EngineConfig
    from reference_model.events import NullSink
    from reference_model.fused.engine import FusedEngine

    config = EngineConfig(
        num_users=shape.num_users,
        num_items=shape.num_items,
        num_positives=shape.num_ratings - shape.num_users,
        mf_dim=1,
        mlp_layers=(2, 1),
        train_negatives=NEGATIVES,
        eval_negatives=eval_negatives,
        batch_size=min(BATCH, 5 * (shape.num_ratings - shape.num_users)),
    )
    engine = FusedEngine(config, NullSink(), "cpu")
    engine.prepare()
    engine.reset(SEED)
    return engine


def measure_sampling(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """Measures loading the split, creating the sampler, and sampling an epoch.

    At the same time, the engine begins to order the next epoch. The seconds are those of the
    second epoch alone. If an epoch takes minutes, they are those of the first epoch, which
    includes 2 s of compilation.
    """
    engine = make_engine(shape, eval_negatives=1)

    def work() -> float:
        engine.load(load_prepared(folder))
        is_short = shape.num_ratings < 10_000_000
        if is_short:
            engine.sample_epoch(1)
        start = time.perf_counter()
        engine.sample_epoch(2 if is_short else 1)
        return time.perf_counter() - start

    measured, seconds = measure_call(work)
    engine.close()
    examples = engine.config.train_examples
    return {**measured, "seconds": seconds, "examples": examples, "parts": engine._orders.parts}


def measure_lists(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """Measures drawing the evaluation lists, with 999 negatives per user.

    If the lists are too large to be kept, they are drawn once to count the masked candidates.
    """
    from reference_model.fused.evaluation_loop import KEPT_LIST_BYTES

    engine = make_engine(shape, eval_negatives=999)
    split = load_prepared(folder)
    measured, _ = measure_call(lambda: engine.load(split))
    engine.close()
    return {**measured, "kept": shape.num_users * 4_000 <= KEPT_LIST_BYTES}


# Called with (shape, data folder); the returned values are added to the JSON line.
STAGES: dict[str, Callable[[SyntheticShape, Path], dict[str, Any]]] = {
    "split": measure_split,
    "load": measure_load,
    "sampling": measure_sampling,
    "lists": measure_lists,
}

if __name__ == "__main__":
    main()
