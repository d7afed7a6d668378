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

MUTATION: Final = "mutation"
"""What a difference calls a change of stored rows that does not get done."""

PARTS: Final = "parts"
"""What a difference calls parts of a table that nobody merges."""

ROWS: Final = "rows"
"""What a difference calls rows that lists leave out, since they are nothing the kit knows."""

SETTING: Final = "setting"
"""What a difference calls a setting of the server under which answers are not what they seem."""

VIEW: Final = "view"
"""What a difference calls a view through which every write runs."""

READER: Final = "reader"
"""What a difference calls a thing that needs a table to be there under its name."""

TRIGGER: Final = "trigger"
"""What a difference calls a statement that a database runs at each write."""

STATES: Final = frozenset({DAMAGE, MUTATION, PARTS, ROWS})
"""Differences in what is stored and not in its form: migrations do not mend them, and a storage
opens with them, or nothing could be read until they are mended."""

UNMIGRATED: Final = STATES | {SETTING, VIEW, READER, TRIGGER}
"""What migrations neither make nor mend."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a live schema that is not as the models say.

    :param store: ``"clickhouse"``, ``"mongo"`` or ``"relational"``.
    :param where: the thing, such as ``candles.open`` or ``formulas.formulas_text``.
    :param what: which side of it, such as ``type`` or ``codec``.
    :param expected: as the models say.
    :param actual: as it is.
    :param remedy: the commands that mend it, one after the other.
    :param warning: what these commands cannot keep, or what must be known before they are run.
    :param is_note: it is worth to know, and no error.
    """

    store: str
    where: str
    what: str
    expected: str
    actual: str
    remedy: str
    warning: str = ""
    is_note: bool = False

    def __str__(self) -> str:
        differs = f"should be {self.expected}, is {self.actual}"
        if self.expected == THERE and self.actual == NOTHING:
            differs = "is missing"
        head = "note: " if self.is_note else ""
        mends = "to change it" if self.is_note else "mend it with"
        warned = f"; first know: {self.warning} Then {mends}" if self.warning else f"; {mends}"
        return f"{head}{self.store} {self.where}: {self.what} {differs}{warned}: {self.remedy}"
