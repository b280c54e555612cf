"""Tells URLs from paths of this machine."""

from __future__ import annotations

import re

# A scheme as RFC 3986, 3.1 defines it, and the two slashes.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(path: str) -> bool:
    """Returns whether a path begins like a URL, such as gs://bucket/folder.

    Only TensorFlow's file systems can open such a path.
    """
    return _SCHEME.match(path) is not None
