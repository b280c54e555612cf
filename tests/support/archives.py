"""A toy dataset as an archive, as a wheel, and on a local web server."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

from reference_model.data.sources import DatasetSpec

RATINGS = b"1::2::3::4\n" * 30_000
INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n"
PACKAGE_MEMBER = "neumf_toy/data/toy.inter"


def zipped(entries: dict[str, bytes]) -> bytes:
    """A zip archive with the given members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped({"toy/README": b"hello", "toy/ratings.dat": RATINGS})


def spec_for(url: str | None = None, **changes) -> DatasetSpec:
    """The toy dataset's description, with the archive at `url`; `changes` replace fields."""
    spec = DatasetSpec(
        "toy",
        url=url,
        archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
        archive_md5=hashlib.md5(ARCHIVE).hexdigest(),
        archive_member="toy/ratings.dat",
    )
    return replace(spec, **changes)


PACKAGED = {
    "package": "neumf-toy==1.0",
    "package_member": PACKAGE_MEMBER,
    "package_member_sha256": hashlib.sha256(INTER).hexdigest(),
}


class Server:
    """A local archive server.

    Attributes:
      content: the served bytes.
      cut: the number of bytes after which it closes the connection; None for never.
      status: an HTTP status that it returns instead of the content; None for none.
      ranges: whether it supports range requests.
      requests: the Range headers of all requests.
    """

    def __init__(self) -> None:
        self.content, self.cut, self.status, self.ranges = ARCHIVE, None, None, True
        self.requests: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/toy.zip"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def answer(self, handler) -> None:
        """Answers one request."""
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if self.status or start >= len(self.content):
            handler.send_error(self.status or 416)
            return
        handler.send_response(206 if start else 200)
        if start:
            end = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        body = self.content[start:]
        if self.cut is not None:
            body = body[: self.cut]
        handler.wfile.write(body)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def make_wheel(folder: Path, content: bytes = INTER) -> None:
    """Writes a wheel that contains the toy dataset."""
    info = "neumf_toy-1.0.dist-info"
    entries = {
        PACKAGE_MEMBER: content,
        "neumf_toy/__init__.py": b"raise SystemExit('never imported')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: neumf-toy\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-does-not-exist==9\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    (folder / "neumf_toy-1.0-py3-none-any.whl").write_bytes(zipped(entries))


def files_in(folder: Path) -> set[str]:
    """Returns the relative paths of all files in a folder except lock files."""
    found = (str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
    return {name for name in found if not name.endswith(".lock")}
