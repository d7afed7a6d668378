"""How the schema of a store differs from the models, in one form for all stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NOTHING: Final = "nothing"
"""Stands for a thing that should not be there, or is not there."""

THERE: Final = "there"
"""What a table or collection as a whole should be."""

DAMAGE: Final = "stored rows"
"""What a difference calls rows that are lost on disk: no migration mends that."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a live schema that is not as the models say.

    :param store: ``"clickhouse"``, ``"mongo"`` or ``"relational"``.
    :param where: the thing, such as ``candles.open`` or ``formulas.formulas_text``.
    :param what: which side of it, such as ``type`` or ``codec``.
    :param expected: as the models say.
    :param actual: as it is.
    :param remedy: the command that mends it.
    """

    store: str
    where: str
    what: str
    expected: str
    actual: str
    remedy: str

    def __str__(self) -> str:
        differs = f"should be {self.expected}, is {self.actual}"
        if self.expected == THERE and self.actual == NOTHING:
            differs = "is missing"
        return f"{self.store} {self.where}: {self.what} {differs}; mend it with: {self.remedy}"
