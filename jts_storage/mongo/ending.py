"""Ending sessions of processes that are gone, and with each the transaction that it left open."""

from __future__ import annotations

from collections.abc import Sequence

from bson import Binary

from jts_storage.mongo.manager import MongoDBManager


async def end_sessions(manager: MongoDBManager, sessions: Sequence[Binary]) -> None:
    """End these sessions alone; others of the same server, or the same user, go on."""
    if sessions:
        await manager.client.admin.command({"killSessions": [{"id": each} for each in sessions]})
