"""`report --html` and `compare --html`: one page that needs no other file and no network.

    limits, tables         limits on the size of a page; tables that can be copied
    svg, plot_style, plots matplotlib's figures in the colours of the page
    runs, settings, findings, figures   the parts of a set's section
    sections, comparison   the values of a page, for `report` and for `compare`
    page, templates/       rendering with Jinja2, and writing the file

Nothing from a log is trusted: the templates escape every text, plots are parsed and rewritten
as XML, and the content security policy of the page allows only its own script.

Imports: base, checking, cli, logs, logs.dialects, rcp, report, results, tracks; jinja2, markupsafe,
matplotlib.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path

from compliance.base.errors import UsageError
from compliance.cli.requirements import install_command

REQUIRED_PACKAGES = ("jinja2", "matplotlib")
# Set before matplotlib is imported, which would log its cache folder and faults in the user's
# settings.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _importable(name: str) -> bool:
    """Whether a package can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def check_page_path(file: str | Path) -> Path:
    """Returns the path if a page can be generated and written there.

    Raises:
      UsageError: A package is missing, or the path cannot be used.
    """
    missing = [name for name in REQUIRED_PACKAGES if not _importable(name)]
    if missing:
        raise UsageError(f"--html needs {' and '.join(missing)}: {install_command('report')}")
    path = Path(file)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path}: cannot be written; give a file in a folder that exists")
    if path.match("result_*.txt"):
        raise UsageError(f"{path} has the name of a log; name the page something.html")
    return path
