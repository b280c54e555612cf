"""`report --html` and `compare --html`: one page that stands by itself.

    bounds, tables   what fits, and tables that can be copied
    svg, plots       matplotlib's figures, made to follow the page's colours
    runs, findings, settings   what a page says of a set
    sections, comparison       put together, for `report` and for `compare`
    page, templates/           Jinja2, and the file that is written

Nothing from a log is trusted: the templates escape everything, plots are parsed and
serialised as XML, and the page's own policy lets no script run but its own.

Imports: base, checking, logs, rcp, report, results, tracks; jinja2, markupsafe, matplotlib.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path

from compliance.base.errors import UsageError

NEEDED = ("jinja2", "matplotlib")
# Before it is imported: it tells where its cache is, and what it thinks of somebody's settings.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _importable(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def check_possible(file: str | Path) -> Path:
    """The path, if a page can be made and written there.  Raises UsageError."""
    missing = [name for name in NEEDED if not _importable(name)]
    if missing:
        raise UsageError(f"--html needs {' and '.join(missing)}: pip install '.[report]' in the "
                         "project's folder")
    path = Path(file)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: cannot be written; give a file in a folder that exists")
    if path.match("result_*.txt"):
        raise UsageError(f"{path} has the name of a log; name the page something.html")
    return path
