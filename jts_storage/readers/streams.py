"""Copy a pipe into a temporary file while it is imported, since readers go over it twice."""

from __future__ import annotations

import bz2
import gzip
import select
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from jts_storage.errors import InvalidData

_READ_BYTES = 1 << 20
_PAUSE_MS = 200
"""Seconds after which a reader looks whether it is still wanted."""
_SAMPLE = 4_096
_COLUMNS = ((b"PAR1", ".parquet"), (b"ARROW1", ".arrow"), (b"\xff\xff\xff\xff", ".arrow"))
_COMPRESSED: tuple[tuple[bytes, str, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", ".gz", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", ".bz2", bz2.open),
    (b"\x28\xb5\x2f\xfd", ".zst", lambda raw: pa.CompressedInputStream(raw, "zstd")),
)


def is_stream(data: object) -> bool:
    """Return whether it can be read once only: an open file, or the path of a pipe or device."""
    if isinstance(data, str | Path):
        path = Path(data)
        # Even where it leads to a file, it says nothing of the file's name.
        is_descriptor = path == Path("/dev/stdin") or path.parent == Path("/dev/fd")
        return is_descriptor or path.is_fifo() or path.is_char_device()
    return callable(getattr(data, "read", None))


def name_of(data: object) -> str:
    """Return what people call a stream."""
    name = data if isinstance(data, str | Path) else getattr(data, "name", None)
    if name in ("<stdin>", "/dev/stdin", "-", 0) or name == Path("/dev/stdin"):
        return "standard input"
    return str(name) if isinstance(name, str | Path) else "the stream"


@contextmanager
def spooled(
    data: Any, *, tell: Callable[[int], None], is_stopped: Callable[[], bool]
) -> Iterator[Path]:
    """Give a file with all that the stream has, whose suffix says its format.

    :param tell: is told how many bytes have come so far.
    :raises InvalidData: nothing came.
    """
    with tempfile.TemporaryDirectory(prefix="jts-stream-") as folder:
        path = Path(folder) / "stream"
        total = 0
        with _opened(data) as stream, path.open("wb") as file:
            for piece in _pieces(stream, is_stopped):
                file.write(piece)
                total += len(piece)
                tell(total)
        if is_stopped():
            raise InterruptedError
        if not total:
            raise InvalidData(f"{name_of(data)} is empty.")
        yield path.rename(path.with_name(f"stream{_suffix(path)}"))


@contextmanager
def _opened(data: Any) -> Iterator[Any]:
    if isinstance(data, str | Path):
        with Path(data).open("rb") as stream:
            yield stream
    else:
        yield data


def _pieces(stream: Any, is_stopped: Callable[[], bool]) -> Iterator[bytes]:
    read = getattr(stream, "read1", stream.read)
    while not is_stopped():
        if _is_ready(stream):
            piece = read(_READ_BYTES)
            if not piece:
                return
            if not isinstance(piece, bytes):
                raise InvalidData("must be opened in binary mode", field="source")
            yield piece


def _is_ready(stream: Any) -> bool:
    """Wait a moment for the stream, so that an interruption need not wait for its end."""
    # What is no file of the system, or none that can be waited for, is read at once.
    with suppress(OSError, ValueError, AttributeError):
        waiting = select.poll()  # select() itself knows no descriptors above 1,023
        waiting.register(stream.fileno(), select.POLLIN)
        return bool(waiting.poll(_PAUSE_MS))
    return True


def _suffix(path: Path) -> str:
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    for mark, suffix in _COLUMNS:
        if sample.startswith(mark):
            return suffix
    for mark, suffix, opened in _COMPRESSED:
        if sample.startswith(mark):
            with path.open("rb") as raw, suppress(OSError, EOFError), opened(raw) as file:
                return _suffix_of_text(file.read(_SAMPLE)) + suffix
            return f".csv{suffix}"  # its reader says what is wrong with it
    return _suffix_of_text(sample)


def _suffix_of_text(sample: bytes) -> str:
    begun = sample.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_array = begun[:1] == b"[" and begun[1:].lstrip()[:1] in (b"{", b"[", b"]")
    return ".json" if is_array or begun[:1] == b"{" else ".csv"
