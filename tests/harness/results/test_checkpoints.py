"""Checkpoints: saved weights are loaded; any other file is refused."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from harness.results import checkpoints
from harness.results.checkpoints import CheckpointError

LIKE = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(1, np.float32)}


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def npy(array: np.ndarray, **settings) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **settings)
    return buffer.getvalue()


GOOD = {"a.npy": npy(LIKE["a"]), "b.npy": npy(LIKE["b"])}


class TestCheckpoints:
    def test_saved_weights_are_loaded(self, tmp_path):
        weights = {k: np.random.default_rng(0).random(v.shape, np.float32) for k, v in LIKE.items()}
        digest = checkpoints.save(tmp_path / "c.npz", weights, "a" * 64)
        found, lists = checkpoints.load(tmp_path / "c.npz", LIKE)
        assert lists == "a" * 64 and digest == checkpoints.file_digest(tmp_path / "c.npz")
        assert all(np.array_equal(found[k], weights[k]) for k in LIKE)
        assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]

    @pytest.mark.parametrize(
        "data",
        [
            archive({}),
            archive({"a.npy": GOOD["a.npy"]}),
            archive({**GOOD, "c.npy": GOOD["b.npy"]}),
            archive({**GOOD, "../b.npy": GOOD["b.npy"]}),
            archive(GOOD, zipfile.ZIP_DEFLATED),
            archive({**GOOD, "b.npy": npy(np.array([{}], object), allow_pickle=True)}),
            archive({**GOOD, "b.npy": npy(np.zeros(1, np.float64))}),
            archive({**GOOD, "b.npy": npy(np.zeros(2, np.float32))}),
            archive({**GOOD, "b.npy": GOOD["b.npy"][:-1]}),
            archive({**GOOD, "b.npy": GOOD["b.npy"] + b"x"}),
            archive({**GOOD, "b.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 60) + b"(" * 60 + b"1234"}),
            archive({**GOOD, "a.npy": npy(np.asfortranarray(LIKE["a"] + 1))}),
            archive({**GOOD, f"{checkpoints.LISTS_MEMBER}.npy": npy(np.zeros(64, np.uint8))}),
            archive({**GOOD, f"{checkpoints.LISTS_MEMBER}.npy": npy(np.zeros(10**6, np.uint8))}),
            archive(GOOD)[:-30],
            b"PK\x05\x06" + bytes(18),
        ],
        ids=range(16),
    )
    def test_a_malformed_checkpoint_is_refused_in_one_line(self, tmp_path, data):
        (tmp_path / "c.npz").write_bytes(data)
        with pytest.raises(CheckpointError) as error:
            checkpoints.load(tmp_path / "c.npz", LIKE)
        assert "\n" not in str(error.value)

    def test_a_huge_file_is_not_opened(self, tmp_path):
        with open(tmp_path / "c.npz", "wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(CheckpointError, match="larger"):
            checkpoints.load(tmp_path / "c.npz", LIKE)

    def test_duplicate_members_are_refused(self, tmp_path):
        data = archive(GOOD)
        with zipfile.ZipFile(tmp_path / "c.npz", "w") as file, pytest.warns(UserWarning):
            for name in ("a.npy", "b.npy", "b.npy"):
                file.writestr(name, GOOD[name])
        assert len(data)
        with pytest.raises(CheckpointError, match="members"):
            checkpoints.load(tmp_path / "c.npz", LIKE)
