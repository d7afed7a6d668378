"""What `redis.coherence` does, for one process that alone writes to its stores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Final
from weakref import WeakValueDictionary

from jts_storage.redis.coherence import Lasting, Look


class LocalCoherence:
    """Generations in memory; values are held by their readers.

    Storages of several threads may share one.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._generations: dict[str, bytes] = {}
        self._writers: dict[str, set[str]] = {}
        self._lock = Lock()

    async def look(self, scopes: Sequence[str], name: str, known: bytes) -> Look:
        with self._lock:
            if any(scope in self._writers for scope in scopes):
                return Look(None)
            return Look(b"".join(map(self._generation, scopes)))

    async def fill(
        self, scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool:
        return (await self.look(scopes, name, b"")).token == look.token

    async def begin(self, scopes: Sequence[str], writer: str, lease: float) -> None:
        with self._lock:
            for scope in scopes:
                self._generations.pop(scope, None)
                self._writers.setdefault(scope, set()).add(writer)

    async def end(self, scopes: Sequence[str], writer: str, landing: float = 0.0) -> None:
        # What an engine in this process was given has landed, or never will.
        with self._lock:
            for scope in scopes:
                self._generations.pop(scope, None)
                writers = self._writers.get(scope, set())
                writers.discard(writer)
                if not writers:
                    self._writers.pop(scope, None)

    def _generation(self, scope: str) -> bytes:
        found = self._generations.get(scope)
        if found is None:
            # Never used before in this process, so that no value of a former one counts again.
            found = self._generations[scope] = next(self._numbers).to_bytes(16, "big")
        return found


_OF_FOLDERS: Final[WeakValueDictionary[Path, LocalCoherence]] = WeakValueDictionary()
_OPENING: Final = Lock()


def coherence_of(folder: Path) -> LocalCoherence:
    """The one of a data folder: each storage on it in this process sees the writes of all."""
    resolved = folder.resolve()
    with _OPENING:
        found = _OF_FOLDERS.get(resolved)
        if found is None:
            found = _OF_FOLDERS[resolved] = LocalCoherence()
        return found
