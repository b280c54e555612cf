"""Distinguishes URLs from local paths."""

from __future__ import annotations

import re

# A scheme as defined in RFC 3986, section 3.1, and two slashes.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(path: str) -> bool:
    """Whether a path starts with a URL scheme, as in gs://bucket/folder.

    Only TensorFlow's file systems can open such a path.
    """
    return _SCHEME.match(path) is not None
