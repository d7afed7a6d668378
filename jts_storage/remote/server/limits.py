"""How much a gateway lets clients have at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """
    :param calls: that run at once, units of work included; one more is refused.
    :param staged_bytes: rows that one unit of work stages, not compressed.
    :param call_bytes: of one call within a unit of work, such as a result with all its trades.
    :param idle_seconds: for which a unit of work may ask nothing; MongoDB ends its transactions
        after 60.
    :param grace_seconds: for which what runs may go on once the gateway is to stop.
    """

    calls: int = 1_000
    staged_bytes: int = 2 * 2**30
    call_bytes: int = 256 * 2**20
    idle_seconds: float = 50.0
    grace_seconds: float = 30.0
