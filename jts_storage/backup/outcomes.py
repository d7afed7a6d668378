"""What was found of a backup when it was last verified, in a small file beside its manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self, TypeAlias

from jts_storage.backup.errors import DamagedBackup

State: TypeAlias = Literal["verified", "failed", "not verified"]
_MOST_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a backup.

    :param faults: what was found; nothing, if all was well.
    """

    at: datetime
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last looks at a backup.

    :param hashes: when those of its objects were compared.
    :param restored: when it was restored into scratch stores, and compared.
    """

    backup_id: str
    hashes: Look | None = None
    restored: Look | None = None

    def after(self, look: Look, *, was_restored: bool) -> Self:
        """The same after another look; who restores has compared the hashes, too."""
        if was_restored:
            return type(self)(self.backup_id, Look(look.at), look)
        return type(self)(self.backup_id, look, self.restored)

    @property
    def failure(self) -> Look | None:
        """The last look of its kind that found something."""
        return next((each for each in (self.hashes, self.restored) if each and each.faults), None)

    @property
    def state(self) -> State:
        if self.failure is not None:
            return "failed"
        return "not verified" if self.restored is None else "verified"

    @property
    def at(self) -> datetime | None:
        """When that was seen."""
        seen = self.failure or self.restored
        return None if seen is None else seen.at

    def to_json(self) -> bytes:
        looks = {"hashes": _plain(self.hashes), "restored": _plain(self.restored)}
        return json.dumps({"id": self.backup_id} | looks).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """:raises DamagedBackup: it is no such file."""
        try:
            plain = json.loads(text)
            return cls(str(plain["id"]), _look(plain["hashes"]), _look(plain["restored"]))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DamagedBackup("it does not say what was found") from exc


def _plain(look: Look | None) -> dict[str, Any] | None:
    if look is None:
        return None
    return {"at": look.at.isoformat(), "faults": look.faults[:_MOST_FAULTS]}


def _look(plain: dict[str, Any] | None) -> Look | None:
    if plain is None:
        return None
    return Look(datetime.fromisoformat(plain["at"]), tuple(map(str, plain["faults"])))
