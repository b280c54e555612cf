"""Every fuzz target on its seeds, on damaged seeds, and on earlier findings."""

from __future__ import annotations

import json
import random

import pytest

from reference_model.data import split_file
from tests.fuzz.targets import TARGETS

_npz = next(data for data in TARGETS["given"].seeds() if data.startswith(b"PK"))
_directory = _npz.index(b"PK\x01\x02")
_rule = (
    b"ruleset: m\ntitle: t\ndialect: mllog\nextends: null\nrules:\n  - id: NCF-X\n"
    b"    severity: error\n    check: reading\n    problems: [json]\n    reason: r\n"
    b"    fix: f\n    source: s\n"
)


def _header(changes: dict) -> bytes:
    """Returns a prepared split with a changed header; the target corrects the checksum."""
    data = next(iter(TARGETS["prepared"].seeds()))
    start = len(split_file.MAGIC) + split_file.HEADER_FRAME.size
    length, _ = split_file.HEADER_FRAME.unpack_from(data, len(split_file.MAGIC))
    text = json.dumps({**json.loads(data[start : start + length]), **changes}).encode()
    return split_file.MAGIC + split_file.HEADER_FRAME.pack(len(text), 0) + text + data[start + length :]


# (target, bytes): each is a finding, or similar to one.
FOUND: list[tuple[str, bytes]] = [
    # numbers in the paper's negatives that no array can store, or that Python does not parse
    ("given", b"0\t1\t5\t1\n\0" b"0\t3\t5\t3\n\0" b"(0,3)\t" + b"3" * 40 + b"\t4\n"),
    ("given", b"0\t1\t5\t1\n\0" b"0\t3\t5\t3\n\0" b"(0,3)\t" + b"3" * 5000 + b"\t4\n"),
    ("given", b"0\t1\t5\t1\n\0" b"0\t3\t5\t3\n\0" b"(0," + b"3" * 40 + b")\t1\t4\n"),
    # a zip of a version that zipfile does not support; a zip with a truncated directory
    ("given", _npz[: _directory + 6] + b"\xd3" + _npz[_directory + 7 :]),
    ("given", _npz[:-30]),
    # a rule whose list contains a mapping
    ("rules", _rule.replace(b"[json]", b"[{a: 1}]")),
    # headers of a prepared split: valid JSON but not a header, or sizes too large for the file
    ("prepared", _header({"bad": 3})),
    ("prepared", _header({"bad": {}, "num_users": 0, "num_negatives": 1})),
    ("prepared", _header({"bad": {}, "num_users": 2**40, "num_negatives": 2**20})),
    ("prepared", _header({"bad": {}, "num_users": "2"})),
    ("prepared", _header({"bad": {}, "num_positives": -1})),
]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_its_seeds_and_damaged_seeds(name):
    target, rng = TARGETS[name], random.Random(0)
    for data in target.seeds():
        target.run(data)
        for _ in range(3):
            changed = bytearray(data)
            changed[rng.randrange(len(changed))] = rng.randrange(256)
            target.run(bytes(changed))
            target.run(bytes(changed[: rng.randrange(len(changed))]))


@pytest.mark.parametrize("name, data", FOUND)
def test_a_target_survives_an_earlier_finding(name, data):
    TARGETS[name].run(data)
