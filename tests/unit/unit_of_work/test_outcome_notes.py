"""What the notes of outcomes ask of MongoDB."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jts_storage.domain import checks
from jts_storage.domain.outcomes import AHEAD, KEPT, first_id_of, new_unit_id
from jts_storage.unit_of_work.outcomes import StoredOutcomes


class Notes:
    """A collection with one note, and what was asked of it."""

    def __init__(self, note: Any) -> None:
        self.note, self.asked, self.taken_off = note, list[Any](), list[Any]()

    async def find_one_and_update(self, where: Any, change: Any, **options: Any) -> Any:
        self.asked.append((where, change, options))
        return self.note

    async def update_one(self, where: Any, change: Any) -> None:
        """Of the list of those under way."""
        self.taken_off.append((where["running.unit._id"], change))

    async def delete_many(self, where: Any) -> None:
        self.asked.append(where)


def outcomes(notes: Notes, commands: list[Any]) -> StoredOutcomes:
    async def repeat(_: str, operation: Callable[[], Awaitable[Any]]) -> Any:
        return await operation()

    async def command(given: Any) -> None:
        commands.append(given)

    manager: Any = SimpleNamespace(
        retries=SimpleNamespace(repeat=repeat),
        get_collection=lambda _: notes,
        client=SimpleNamespace(admin=SimpleNamespace(command=command)),
    )
    return StoredOutcomes(manager)


async def test_who_gives_up_ends_the_transaction_that_was_begun() -> None:
    """Or what it has written would stay locked, for a minute where its process died."""
    identity, commands = new_unit_id(), list[Any]()
    notes = Notes({"_id": identity, "session": b"s"})
    assert not (await outcomes(notes, commands).settle(identity)).is_committed
    ((where, change, options),) = notes.asked
    assert where == {"_id": identity, "isCommitted": {"$exists": False}}
    assert change == {"$set": {"isCommitted": False}}
    assert options["upsert"] is True
    assert commands == [{"killSessions": [{"id": b"s"}]}]
    assert notes.taken_off == [(identity, {"$pull": {"running": {"unit._id": identity}}})]


async def test_outcomes_are_kept_for_clocks_that_are_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = checks.now()
    monkeypatch.setattr(checks, "now", lambda: now)
    notes = Notes(None)
    await outcomes(notes, []).purge()
    assert notes.asked == [{"_id": {"$lt": first_id_of(now - KEPT - AHEAD)}}]
