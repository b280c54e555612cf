"""The fuzz targets: functions of any bytes that may raise only errors for invalid input.

Each target has seeds. This module does not need atheris: the tests run every target on its seeds
and on earlier findings.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

from compliance.chain.ledger import LedgerError, parse_ledger
from compliance.checking.checker import check_file
from compliance.checking.ruleset import RulesetError, load_ruleset_file
from compliance.tracks import TrackError, load_track
from reference_model.base.errors import DataError
from reference_model.data import split_file
from reference_model.data.published_splits import read_published_split, resolve_published_split
from reference_model.ratings.reader import read_ratings
from reference_model.data.split import Split
from tests.support.paths import DATA, ROOT

# In memory if the system has /dev/shm, because a fuzzer writes one file per input.
_FOLDER = Path(tempfile.mkdtemp(
    prefix="fuzz", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def _write_input(data: bytes, name: str = "input") -> Path:
    """Writes the bytes to a file; returns its path."""
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def fuzz_log(data: bytes) -> None:
    """Any log gets a verdict, and the result is valid JSON."""
    result = check_file(_write_input(data, "result_0.txt"))
    assert result.verdict in ("pass", "fail", "unreadable")
    json.dumps(result.as_json()["violations"], allow_nan=False)
    json.dumps(result.as_json()["run"], allow_nan=False)


def fuzz_mllog(data: bytes) -> None:
    """The same for bytes after the token of an MLLOG record."""
    fuzz_log(b":::MLLOG " + data)


def fuzz_v05(data: bytes) -> None:
    """The same for bytes after the token of a v0.5 record."""
    fuzz_log(b":::MLPv0.5.0 ncf " + data)


def fuzz_ledger(data: bytes) -> None:
    """A ledger is verified or refused."""
    try:
        parse_ledger(data)
    except LedgerError as error:
        assert "\n" not in str(error)


def fuzz_rules(data: bytes) -> None:
    """Rule and track files are loaded, or refused in one line."""
    path = _write_input(data, "mine.yaml")
    load_ruleset_file.cache_clear()
    for load, refused in ((load_ruleset_file, RulesetError),
                          (lambda p: load_track(str(p)), TrackError)):
        try:
            load(path)
        except refused as error:
            assert "\n" not in str(error)


def fuzz_ratings(data: bytes) -> None:
    """Ratings, whose format is detected, are read or refused in one line."""
    try:
        found = read_ratings(_write_input(data))
        assert len(found.user) == len(found.item) == len(found.timestamp)
        assert not len(found.user) or found.user.min() == 0
    except DataError as error:
        assert "\n" not in str(error)


def fuzz_published_split(data: bytes) -> None:
    """A published split, as .npz or as its three text files (separated by zero bytes)."""
    try:
        if data.startswith(b"PK"):
            read_published_split(resolve_published_split(_write_input(data, "split.npz")))
        else:
            (_FOLDER / "split.npz").unlink(missing_ok=True)
            parts = [*data.split(b"\0", 2), b"", b""]
            for name, part in zip(("train.rating", "test.rating", "test.negative"), parts):
                _write_input(part, f"x.{name}")
        read_published_split(resolve_published_split(_FOLDER))
    except DataError as error:
        assert "\n" not in str(error)


def fuzz_prepared_split(data: bytes) -> None:
    """A prepared split with a corrected header checksum; otherwise none would be accepted."""
    magic, frame = split_file.MAGIC, split_file.HEADER_FRAME
    if data.startswith(magic) and len(data) >= len(magic) + frame.size:
        length, _ = frame.unpack_from(data, len(magic))
        start = len(magic) + frame.size
        text = data[start : start + min(length, split_file.MAX_HEADER_BYTES)]
        data = magic + frame.pack(length, zlib.crc32(text)) + data[start:]
    try:
        split_file.read_split_file(_write_input(data, "x.split"))
    except split_file.InvalidSplitFile as error:
        assert str(error)


def _read_files(*patterns: str) -> Iterator[bytes]:
    for pattern in patterns:
        for path in sorted(DATA.glob(pattern)):
            yield path.read_bytes()


def _log_seeds(token: bytes) -> Iterator[bytes]:
    for data in _read_files("good/*.txt", "bad/*.txt"):
        if data.startswith(token):
            yield data.removeprefix(token)


def _ledger_seeds() -> Iterator[bytes]:
    from tests.support.logs.attempt_chains import LAUNCHER, OTHER, chained_set

    with tempfile.TemporaryDirectory() as folder:
        chained_set(Path(folder), ["target", "killed", "target"], [LAUNCHER, OTHER, OTHER])
        yield next(Path(folder).rglob("ledger.jsonl")).read_bytes()


def _rule_seeds() -> Iterator[bytes]:
    for path in [*(ROOT / "compliance").rglob("*.yaml"), *DATA.glob("*.yaml")]:
        yield path.read_bytes()[:3000]
        yield path.read_bytes()[-1500:]


def _ratings_seeds() -> Iterator[bytes]:
    rows = [(1, 10, 5, 978300760), (1, 11, 3, 978302109), (2, 10, 4.5, 978301968), (2, 12, 1, 1)]
    for separator in ("::", "\t", ","):
        yield "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()
    yield b"userId,movieId,rating,timestamp\r\n1,10,5,978300760\r\n2,11,4.5,1e9\r\n"
    yield b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1m_1\tToy\t5\t97830\n"


def _published_split_seeds() -> Iterator[bytes]:
    yield (b"0\t1\t5\t1\n0\t2\t3\t2\n1\t0\t4\t3\n\0" b"0\t3\t5\t3\n1\t1\t4\t9\n\0"
           b"(0,3)\t0\t4\n(1,1)\t2\t3\n")  # fmt: skip
    import io

    import numpy as np

    buffer = io.BytesIO()
    arrays = {
        "train_user": [0, 0, 1], "train_item": [1, 2, 0], "test_user": [0, 1],
        "test_item": [3, 1], "test_negative": [[0, 4], [2, 3]],
    }  # fmt: skip
    np.savez(buffer, **{name: np.array(value, np.int32) for name, value in arrays.items()})
    yield buffer.getvalue()


def _prepared_split_seeds() -> Iterator[bytes]:
    import numpy as np

    header = split_file.SplitHeader(
        "x", "ratings", 2, 3, 3, 0, "0" * 64, 20, "s", "0" * 64, 5, {}
    )
    for negatives in (None, np.array([[0], [2]], np.int32)):
        split = Split(2, 3, np.array([0, 0, 1], np.int32), np.array([1, 2, 0], np.int32),
                      np.array([0, 1], np.int32), negatives)  # fmt: skip
        values = {**header.__dict__, "digest": split.digest, "num_negatives": negatives is not None}
        values["num_negatives"] = int(values["num_negatives"])
        whole = split_file.SplitHeader(**values)
        path = _FOLDER / "seed.split"
        arrays = [np.array([2, 1]), split.train_item, split.test_item]
        arrays += [] if negatives is None else [negatives]
        split_file.write_split_file(path, whole, arrays)
        yield path.read_bytes()


class Target(NamedTuple):
    """A function to fuzz, and its seeds."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


TARGETS: dict[str, Target] = {
    "mllog": Target(fuzz_mllog, lambda: _log_seeds(b":::MLLOG ")),
    "v05": Target(fuzz_v05, lambda: _log_seeds(b":::MLPv0.5.0 ncf ")),
    "ledger": Target(fuzz_ledger, _ledger_seeds),
    "rules": Target(fuzz_rules, _rule_seeds),
    "ratings": Target(fuzz_ratings, _ratings_seeds),
    "given": Target(fuzz_published_split, _published_split_seeds),
    "prepared": Target(fuzz_prepared_split, _prepared_split_seeds),
}
