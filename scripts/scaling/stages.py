"""One stage of one size, measured in this process: `stages.py STAGE SIZE FOLDER`."""

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

# Those above ml-20m have its items, and its users again and again: the generator's time
# grows with users x items.
SIZES = {
    "ml-100k": SyntheticShape(943, 1_682, 100_000),
    "ml-1m": SyntheticShape(6_040, 3_706, 1_000_209),
    "ml-20m": SyntheticShape(138_493, 26_744, 20_000_263, seed=2018),
    "100m": SyntheticShape(692_465, 26_744, 100_001_315, seed=2018),
    "ml-20m-x10": SyntheticShape(1_384_930, 26_744, 200_002_630, seed=2018),
}
COPIED = {"100m": ("ml-20m", 5), "ml-20m-x10": ("ml-20m", 10)}
BATCH, NEGATIVES = 1_048_576, 4
SEED = 1


def main() -> None:
    stage, size, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    shape = SIZES[size]
    if stage == "make":
        make(size, folder)
        return print("{}")
    figures = STAGES[stage](shape, folder)
    line = {"size": size, "stage": stage, **asdict(shape)}
    line["positives"] = shape.num_ratings - shape.num_users
    print(json.dumps({**line, **figures}))


# -- measuring ------------------------------------------------------------------------


def status(*names: str) -> list[int]:
    """Lines of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return [int(found[name].split()[0]) * 1024 for name in names]


def measured(work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """({seconds, and by how much memory grew at most and stays, in bytes}, what it gave).

    `peak_bytes` counts all that is resident, pages of mapped files too, which the system
    takes back when it needs them; `anonymous_bytes` stays and is none of these. Not by
    ru_maxrss, which a process inherits from the one that started it.
    """
    (peak_before,) = status("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, anonymous = status("VmRSS", "RssAnon")
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak, now, later = status("VmHWM", "VmRSS", "RssAnon")
    return {
        "seconds": seconds,
        "peak_bytes": peak - before,
        "stays_bytes": now - before,
        "anonymous_bytes": later - anonymous,
        "process_peak_bytes": max(peak, peak_before),
    }, result


# -- stages ---------------------------------------------------------------------------


def make(size: str, folder: Path) -> None:
    """Writes the prepared file, and the raw ratings as `read_ratings` gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, path = folder / "ratings.npz", folder / "prepared.split"
    if raw.exists():
        return
    source, copies = COPIED.get(size, (size, 1))
    split = repeated(generate_split(SIZES[source]), copies)
    header = split_file.CacheHeader(
        size, "synthetic", split.num_users, split.num_items, split.num_positives, 0,
        split.digest, MIN_RATINGS, "generated", "0" * 64, 0, {},
    )  # fmt: skip
    arrays = [np.diff(split.row_starts), split.train_item, split.test_item]
    split_file.write_prepared(path, header, arrays)
    np.savez(raw, **raw_ratings(split))


def repeated(split: Split, copies: int) -> Split:
    """Every user so many times, with the same items."""
    counts = np.tile(np.diff(split.row_starts), copies)
    users = np.arange(copies * split.num_users, dtype=np.int32)
    return Split(
        len(users),
        split.num_items,
        np.repeat(users, counts),
        np.tile(split.train_item, copies),
        np.tile(split.test_item, copies),
    )


def load(folder: Path) -> Split:
    """The split, as a run loads it."""
    return split_file.read_prepared(folder / "prepared.split")[1]


def raw_ratings(split: Split) -> dict[str, np.ndarray]:
    """All ratings, the held-out one last of its user; items by first appearance."""
    counts = np.diff(split.row_starts)
    held = np.cumsum(counts + 1) - 1
    item = np.empty(split.num_positives + split.num_users, np.int32)
    trained = np.ones(len(item), bool)
    trained[held] = False
    item[trained], item[held] = split.train_item, split.test_item
    seen, first = np.unique(item, return_index=True)
    number = np.zeros(split.num_items, np.int32)
    number[seen[np.argsort(first)]] = np.arange(len(seen))
    users = np.arange(split.num_users, dtype=np.int32)
    timestamp = np.arange(len(item), dtype=np.int64)
    return {"user": np.repeat(users, counts + 1), "item": number[item], "timestamp": timestamp}


def split_stage(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """Leave-one-out, the raw ratings (16 bytes each) being in memory already."""
    with np.load(folder / "ratings.npz") as raw:
        arrays = [raw[name] for name in ("user", "item", "timestamp")]
    figures, split = measured(lambda: leave_one_out(*arrays))
    assert split.num_positives == shape.num_ratings - shape.num_users
    return figures


def load_stage(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """The prepared file, its digest recomputed."""
    return measured(lambda: load(folder))[0]


def engine_of(shape: SyntheticShape, eval_negatives: int) -> Any:
    """The fused engine with next to no model, compiled."""
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


def sampling_stage(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """From nothing: the split is loaded, the sampler made, and an epoch ordered and drawn,
    while the order of the next one is begun. The seconds are those of the second epoch
    alone; of the first, 2 s of compiling included, where an epoch takes minutes."""
    engine = engine_of(shape, eval_negatives=1)

    def work() -> float:
        engine.load(load(folder))
        if shape.num_ratings < 10_000_000:
            engine.sample_epoch(1)
        start = time.perf_counter()
        engine.sample_epoch(2 if shape.num_ratings < 10_000_000 else 1)
        return time.perf_counter() - start

    figures, seconds = measured(work)
    engine.close()
    examples = engine.config.train_examples
    return {**figures, "seconds": seconds, "examples": examples, "parts": engine._orders.parts}


def lists_stage(shape: SyntheticShape, folder: Path) -> dict[str, Any]:
    """The evaluation lists, 999 negatives a user, drawn or counted once."""
    from reference_model.fused.training_loop import KEPT_LIST_BYTES

    engine = engine_of(shape, eval_negatives=999)
    split = load(folder)
    figures, _ = measured(lambda: engine.load(split))
    engine.close()
    return {**figures, "kept": shape.num_users * 4_000 <= KEPT_LIST_BYTES}


STAGES: dict[str, Callable[[SyntheticShape, Path], dict[str, Any]]] = {
    "split": split_stage,
    "load": load_stage,
    "sampling": sampling_stage,
    "lists": lists_stage,
}

if __name__ == "__main__":
    main()
