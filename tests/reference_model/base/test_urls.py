"""URLs are distinguished from paths."""

from __future__ import annotations

import pytest

from reference_model.base.urls import is_url


@pytest.mark.parametrize("path", ["gs://bucket/folder", "s3+x://a", "file:///tmp", "hdfs://h:1/a"])
def test_a_scheme_and_two_slashes_make_a_url(path):
    assert is_url(path)


@pytest.mark.parametrize("path", ["", "data", "/tmp/a://b", "./gs://a", "3s://a", "://a", "gs:/a"])
def test_other_texts_are_paths(path):
    assert not is_url(path)
