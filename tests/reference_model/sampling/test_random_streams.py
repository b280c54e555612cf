"""Random streams: distinct for every key, the same for the same key."""

from __future__ import annotations

from reference_model.sampling.random_streams import stream


def test_streams_are_distinct_by_seed_purpose_epoch_and_index():
    keys = [(1, 2, 1, 0), (2, 2, 1, 0), (1, 3, 1, 0), (1, 2, 2, 0), (1, 2, 1, 1)]
    draws = {tuple(stream(*key).integers(0, 2**63, 4)) for key in keys}
    assert len(draws) == len(keys)
    assert tuple(stream(*keys[0]).integers(0, 2**63, 4)) in draws
