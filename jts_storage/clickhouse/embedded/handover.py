"""The file through which rows reach the embedded engine.

chDB has three ways to take rows in a binary format. ``send_insert`` returns success where the
insert failed. Bytes within the text of a query end at the first empty line that they happen to
hold, and the engine runs what follows as a query. A file has neither fault, and in memory it is as
fast; see ``docs/decisions/0015``.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any


class HandoverFile:
    """A file in memory, or a temporary one where the system has none in memory.

    It is written over again for each statement, so that its memory is allocated once.

    :ivar path: where the engine, in this process, can open it.
    :ivar size: bytes that it holds, known after `end`.
    """

    def __init__(self) -> None:
        self._file: Any
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("jts-rows"), "wb", buffering=0)
            self.path = f"/proc/self/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile(buffering=0)  # noqa: SIM115
            self.path = self._file.name
        self.size = 0

    def rewind(self) -> None:
        """Begin anew; what it held goes at `end`."""
        self._file.seek(0)

    def write(self, data: bytes) -> None:
        """Append all of `data`."""
        # An unbuffered file may write less than it is given.
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def end(self) -> None:
        """Cut off what an earlier statement left behind what was written."""
        self.size = self._file.tell()
        self._file.truncate()

    def close(self) -> None:
        self._file.close()
