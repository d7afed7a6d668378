"""Answers kept in this process, each with the generations that it is of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

MOST_BYTES: Final = 32 * 2**20
_OVERHEAD: Final = 400
"""Bytes of the objects around an answer, roughly."""


@dataclass(frozen=True, slots=True)
class Held:
    """One answer.

    :param token: its generations; it counts while these are the present ones.
    :param until: it counts no longer, whatever the generations say.
    :param is_too_large: the database is to be asked: the answer is not kept.
    """

    token: bytes
    value: Any
    size: int
    until: float
    is_too_large: bool = False


class HeldAnswers:
    """So many bytes of answers; those asked for longest ago give way."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = monotonic
    ) -> None:
        self._most, self._clock = most_bytes, clock
        self._answers: OrderedDict[str, Held] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Held | None:
        held = self._answers.get(key)
        if held is None:
            return None
        if self._clock() >= held.until:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return held

    def put(self, key: str, held: Held) -> None:
        self._drop(key)
        size = held.size + _OVERHEAD
        if size > self._most:
            return
        self._answers[key] = held
        self.bytes += size
        while self.bytes > self._most:
            self._drop(next(iter(self._answers)))

    def clear(self) -> None:
        self._answers.clear()
        self.bytes = 0

    def _drop(self, key: str) -> None:
        gone = self._answers.pop(key, None)
        if gone is not None:
            self.bytes -= gone.size + _OVERHEAD
