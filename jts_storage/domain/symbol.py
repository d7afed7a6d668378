"""What is traded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jts_storage.domain import checks
from jts_storage.domain.enums import Market, member
from jts_storage.errors import InvalidData


@dataclass(frozen=True, slots=True)
class Symbol:
    """An instrument. Its code is its identity; saving the same code again replaces the rest."""

    code: str
    name: str
    market: Market
    sector: str | None = None
    is_active: bool = True
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        checks.name(self.code, "code")
        checks.name(self.name, "name")
        object.__setattr__(self, "market", member(Market, self.market, "market"))
        checks.given(self, checks.name, "sector")
        if not isinstance(self.is_active, bool):
            raise InvalidData("must be True or False", field="is_active", value=self.is_active)
        checks.given(self, checks.utc, "updated_at")

    def matches(self, query: str) -> bool:
        """Return whether code or name contains `query`, in any case; an empty one never fits."""
        wanted = query.lower()
        return bool(wanted) and (wanted in self.code.lower() or wanted in self.name.lower())
