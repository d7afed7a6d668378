"""What an import may change in prices and volumes, and what it has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Self

from jts_storage.errors import InvalidData

_FRACTIONS = ("round", "floor")
_MOST_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class Changes:
    """How many values were rounded, and by how much at most."""

    values: int = 0
    largest: Decimal = Decimal(0)

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.values + other.values, max(self.largest, other.largest))


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What was changed in some rows so that they can be stored.

    :param filled: how many volumes were missing and are zero now.
    """

    prices: Changes = field(default_factory=Changes)
    volumes: Changes = field(default_factory=Changes)
    filled: int = 0

    def __add__(self, other: Adjusted) -> Adjusted:
        return Adjusted(
            self.prices + other.prices, self.volumes + other.volumes, self.filled + other.filled
        )


@dataclass(frozen=True, slots=True)
class VolumeRule:
    """What becomes of volumes that are not whole numbers.

    :param fractions: whether they are refused, rounded or cut off.
    :param decimals: volumes are stored times 10**decimals.
    :param zero_if_missing: whether a volume that is missing is zero.
    """

    fractions: Literal["refuse", "round", "floor"] = "refuse"
    decimals: int = 0
    zero_if_missing: bool = False

    @classmethod
    def of(cls, text: str | None) -> Self:
        """Return the rule of a text such as ``round``, ``scale:8`` or ``floor,zero-if-missing``."""
        given: dict[str, Any] = {}
        for part in (text or "").split(",") if text is not None else ():
            name, _, digits = part.strip().partition(":")
            if name in _FRACTIONS and not digits and "fractions" not in given:
                given["fractions"] = name
            elif name == "zero-if-missing" and not digits:
                given["zero_if_missing"] = True
            elif name == "scale" and digits.isdecimal() and int(digits) <= _MOST_DECIMALS:
                given["decimals"] = int(digits)
            else:
                raise InvalidData(
                    "must be round, floor, scale:N with N up to 18, zero-if-missing, "
                    "or several of them with commas",
                    field="volume",
                    value=text,
                )
        return cls(**given)
