"""Wait for another migration run to finish; give up with an error that names it."""

from __future__ import annotations

import time
from typing import Final

from jts_storage.errors import Conflict

_PAUSE: Final = 0.05


class Waiting:
    """The patience of a runner that waits for another.

    :param where: what the other migrates, such as ``"this ClickHouse"``.
    :param patience: for so many seconds.
    """

    def __init__(self, where: str, patience: float) -> None:
        self._where = where
        self._give_up = time.monotonic() + patience

    def pause(self, holder: str | None, lease: float) -> float:
        """How many seconds to wait before the next attempt.

        :param lease: how many seconds the holder may be silent.
        :raises Conflict: it was waited for long enough.
        """
        if time.monotonic() > self._give_up:
            raise Conflict(
                f"Another runner migrates {self._where}: {holder}.",
                remedy="Wait until it has ended; if it died, its lock ends"
                f" {lease:g} s after its last sign of life.",
            )
        return _PAUSE


def taken_over(where: str) -> Conflict:
    """The error of a runner that was silent for longer than its lease."""
    return Conflict(
        f"Another runner took over {where}, since this one was silent.",
        remedy="Let it finish; then see `jts-storage migrate status`.",
    )
