"""Who holds a lock, in a text from which another process can tell whether it is gone."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from jts_storage._runtime.processes import exists, place

_alive_here: set[str] = set()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process somewhere, and which of its runs."""

    place: str
    pid: int
    run: str

    def __str__(self) -> str:
        return f"{self.place}/{self.pid}/{self.run}"

    @classmethod
    def parse(cls, text: str) -> Self:
        place, pid, run = text.rsplit("/", 2)
        return cls(place, int(pid), run)

    @classmethod
    @contextmanager
    def here(cls) -> Iterator[Self]:
        """An owner that counts as alive until the block ends."""
        owner = cls(place(), os.getpid(), uuid.uuid4().hex[:12])
        _alive_here.add(owner.run)
        try:
            yield owner
        finally:
            _alive_here.discard(owner.run)

    @property
    def is_gone(self) -> bool:
        """Whether it surely lives no more; of other places nothing is known."""
        if self.place != place():
            return False
        if self.pid == os.getpid():
            return self.run not in _alive_here
        return not exists(self.pid)
