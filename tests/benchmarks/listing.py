"""A pytest plugin that prints the id of every benchmark found: `-p tests.benchmarks.listing`.

    python -m pytest --collect-only -qq -p tests.benchmarks.listing tests/benchmarks | sed -n 's/^id: //p' | sort
"""

from __future__ import annotations


def pytest_collection_modifyitems(items):
    print("", *("id: " + item.nodeid for item in items), sep="\n")
