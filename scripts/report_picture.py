"""Takes the picture of the HTML report that the README shows.

    python -m scripts.report_picture --output=docs/report.png [RESULTS]

RESULTS is the folder of a set, by default an example result. The page is drawn by a Chromium on
PATH, from its top to the end of the plots. The extras `report` and `test` are needed.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from compliance.__main__ import main as compliance
from reference_model.base.atomic_files import atomic_write
from reference_model.base.usage_parser import UsageParser

DEFAULT_RESULTS = "results/example_amd-epyc-2cpu/ncf-ml-100k"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1200, 1370  # CSS pixels
COLORS = 64  # of the palette: the picture stays below 100 KB


def take_picture(page: Path, program: str) -> bytes:
    """Draws a page.

    Args:
      page: An HTML file.
      program: The path of a Chromium.

    Returns:
      A PNG file with a palette.
    """
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium refuses to run as root with its sandbox.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        view.goto(page.as_uri())
        picture = Image.open(io.BytesIO(view.screenshot()))
        browser.close()
    packed = io.BytesIO()
    picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(
        packed, "PNG", optimize=True)
    return packed.getvalue()


def main(argv: list[str] | None = None) -> int:
    parser = UsageParser(
        prog="python -m scripts.report_picture", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", default=DEFAULT_RESULTS, help="the folder of a set")
    parser.add_argument("--output", type=Path, required=True, help="the PNG file to write")
    args = parser.parse_args(argv)
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print("report_picture: no Chromium on PATH: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        if code := compliance(["report", args.results, "--html", str(page)]):
            return code
        picture = take_picture(page, program)
    with atomic_write(args.output) as stream:
        stream.write(picture)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
