"""The file through which rows reach the embedded engine.

chDB has three ways to take rows in a binary format. ``send_insert`` returns success where the
insert failed. Bytes within the text of a query end at the first empty line that they happen to
hold, and the engine runs what follows as a query. A file has neither fault, and in memory it is as
fast; see ``docs/decisions/0015``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from clickhouse_driver.errors import ErrorCodes

from jts_storage.clickhouse.blocks import Array
from jts_storage.clickhouse.driver_internals import CompressedBufferedWriter
from jts_storage.clickhouse.errors import EmbeddedError

_BUFFER = 1 << 20
_KEPT_BYTES = 16 << 20
_WORTH_A_CALL = 1 << 16  # bytes; fewer are gathered in the buffer


@contextmanager
def _file_errors() -> Iterator[None]:
    """Report a file that cannot take the rows as the full disk or memory that it is."""
    try:
        yield
    except OSError as exc:
        raise EmbeddedError(
            f"The rows could not be handed to the engine: {exc}", ErrorCodes.NOT_ENOUGH_SPACE
        ) from exc


class HandoverFile:
    """A file in memory, or a temporary one where the system has none in memory.

    It is written over again for each statement, so that its memory is allocated once.

    :ivar path: where the engine, in this process, can open it.
    """

    def __init__(self) -> None:
        self._file: Any
        with _file_errors():
            if hasattr(os, "memfd_create"):
                self._file = os.fdopen(os.memfd_create("jts-rows"), "wb", buffering=0)
                self.path = f"/proc/self/fd/{self._file.fileno()}"
            else:
                self._file = tempfile.NamedTemporaryFile(buffering=0)  # noqa: SIM115
                self.path = self._file.name

    def rewind(self) -> None:
        """Begin anew; what it held goes at `end`."""
        self._file.seek(0)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        # An unbuffered file may write less than it is given.
        rest = memoryview(data)
        with _file_errors():
            while rest:
                rest = rest[self._file.write(rest) :]

    def end(self) -> None:
        """Cut off what an earlier statement left behind what was written."""
        with _file_errors():
            self._file.truncate()

    def give_back(self) -> None:
        """Give back the memory of many rows, but for what is soon written over again."""
        if self._file.tell() > _KEPT_BYTES:
            self._file.truncate(_KEPT_BYTES)

    def close(self) -> None:
        self._file.close()


class HandoverWriter(CompressedBufferedWriter):  # type: ignore[misc]
    """The driver's buffered writer into a hand-over file; arrays are not copied on their way."""

    def __init__(self, file: HandoverFile) -> None:
        super().__init__(file, _BUFFER)
        self._file = file

    def write_array(self, array: Array) -> None:
        """Append the bytes of a contiguous array."""
        if array.nbytes < _WORTH_A_CALL:
            self.write(array.tobytes())
        else:
            self.flush()
            self._file.write(array.reshape(-1).view(np.uint8).data)
