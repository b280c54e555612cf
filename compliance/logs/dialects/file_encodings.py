"""Unwraps log files that a shell or a log collector has compressed, encoded or wrapped.

gzip is recognized by its magic bytes, UTF-16 by its byte order mark, docker's json-file
format by its first line. Line numbers are preserved. The file is streamed, so memory does not
grow with its size.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Callable, Iterator

# A file that unpacks to more than this is rejected, since a small file can unpack to any size.
MAX_UNPACKED_BYTES = 4 << 30
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_DOCKER_START = re.compile(rb'\s*\{\s*"log"\s*:\s*"')
_PEEK_BYTES = 64


@contextmanager
def open_log(path: Path, update: Callable[[bytes], object]) -> Iterator[tuple[BinaryIO, list[str]]]:
    """Opens a log file as a stream of its unwrapped text.

    Args:
      path: The file.
      update: Called with the raw bytes of the file, in order, to compute a digest.

    Yields:
      (a stream of UTF-8 or ASCII text, descriptions of the file's wrapping).

    Raises:
      OSError: The file cannot be read, is damaged, or unpacks to too many bytes.
    """
    with open(path, "rb") as file:
        start = file.read(_PEEK_BYTES)
        file.seek(0) if file.seekable() else None
        source: BinaryIO = _Tee(file, start if not file.seekable() else b"", update)
        notes: list[str] = []
        if start.startswith(_GZIP_MAGIC):
            notes.append("compressed by gzip")
            source = _Unpacked(source)
            start = source.peek_start()
        encoding = _BYTE_ORDER_MARKS.get(start[:2])
        if encoding is not None:
            notes.append("encoded in UTF-16")
            source = _Utf16(source, encoding)
            start = source.peek_start()
        if _DOCKER_START.match(start):
            notes.append("wrapped by docker's json-file driver")
            source = _Docker(source)
        yield source, notes


class _Tee(io.RawIOBase):
    """Reads a file and passes each of its bytes to `update` once."""

    def __init__(self, file: BinaryIO, start: bytes, update: Callable[[bytes], object]) -> None:
        self._file, self._start, self._update = file, start, update

    def read(self, size: int = -1) -> bytes:
        data, self._start = (self._start, b"") if self._start else (self._file.read(size), b"")
        self._update(data)
        return data


class _Peekable:
    """A stream whose first bytes can be inspected before reading."""

    def __init__(self) -> None:
        self._ahead = b""

    def peek_start(self) -> bytes:
        """Returns the first bytes; `read` returns them again."""
        while len(self._ahead) < _PEEK_BYTES and (more := self._next(_PEEK_BYTES)):
            self._ahead += more
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        """Reads about `size` bytes; returns b"" at the end."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return self._next(size)

    def _next(self, size: int) -> bytes:
        raise NotImplementedError


class _Unpacked(_Peekable):
    """The contents of a gzip file."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._file = gzip.GzipFile(fileobj=source, mode="rb")
        self._left = MAX_UNPACKED_BYTES

    def _next(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"damaged gzip: {error}") from None
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
        if not data:
            while self._source.read(1 << 16):  # the digest covers the whole file
                pass
        return data


class _Utf16(_Peekable):
    """UTF-16 text as UTF-8."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def _next(self, size: int) -> bytes:
        while data := self._source.read(size):
            if text := self._decoder.decode(data):
                return text.lstrip("\ufeff").encode()
        return self._decoder.decode(b"", final=True).encode()


class _Docker(_Peekable):
    """The logged text in docker's json-file format: each line is an object with "log"."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source, self._rest = source, b""

    def _next(self, size: int) -> bytes:
        while True:
            data = self._source.read(size)
            self._rest += data
            cut = self._rest.rfind(b"\n") + 1 if data else len(self._rest)
            if cut or not data or len(self._rest) > 1 << 22:
                lines, self._rest = self._rest[:cut or None], self._rest[cut:] if cut else b""
                return b"".join(map(self._unwrap, lines.splitlines(keepends=True)))

    @staticmethod
    def _unwrap(line: bytes) -> bytes:
        try:
            text = json.loads(line)["log"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return line
        # Each line of the file becomes one line, even if its text contains newlines.
        return text.rstrip("\n").replace("\n", " ").encode() + b"\n" if isinstance(text, str) \
            else line
