"""Names for moments, as people make and use them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from jts_storage import Commit, Storage
from jts_storage.cli import moments
from jts_storage.errors import NotFound


def test_snapshots_are_made_listed_and_deleted(run: Any) -> None:
    assert run("snapshots", "list").out == "None found.\n"
    assert run("snapshots", "list", "--json").out == "[]\n"
    made = json.loads(
        run("snapshots", "create", "scan-2026-11", "--note", "first\n\x1b[31m", "--json").out
    )
    assert (made["name"], made["note"]) == ("scan-2026-11", "first\n\x1b[31m")
    assert Commit(made["commit"]).moment == datetime.fromisoformat(made["moment"])
    shown = run("snapshots", "create", "scan-2026-12").out
    assert shown.startswith("Snapshot scan-2026-12 shows what was committed up to 20")

    listed = run("snapshots", "list").out
    assert "\x1b" not in listed
    heading, first, second = listed.splitlines()
    assert "shows what was committed up to" in heading
    moment = datetime.fromisoformat(made["moment"])
    assert first.split() == [
        *("scan-2026-11", f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S}", "UTC"),
        "first\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m",
    ]
    assert second.split()[0] == "scan-2026-12"
    asked = ("snapshots", "list", "--json")
    assert json.loads(run(*asked, "--limit", "1").out) == [made]
    (after,) = json.loads(run(*asked, "--after", "scan-2026-11").out)
    assert after["name"] == "scan-2026-12"

    gone = run("snapshots", "delete", "scan-2026-12").out
    assert gone.startswith("Snapshot scan-2026-12 of 20") and "UTC is deleted." in gone
    assert json.loads(run("snapshots", "delete", "scan-2026-11", "--json").out) == {"deleted": made}
    assert run("snapshots", "list", "--json").out == "[]\n"


def test_what_cannot_be_done_is_told(run: Any) -> None:
    unknown = run("snapshots", "delete", "scan", code=2).err
    assert unknown == (
        "Error: There is no snapshot 'scan'. `jts-storage snapshots list` shows what there is.\n"
    )
    run("snapshots", "create", "scan")
    again = run("snapshots", "create", "scan", code=2).err
    assert "There is a snapshot 'scan' already" in again
    assert "must not be empty" in run("snapshots", "create", "", code=2).err
    assert "control characters" in run("snapshots", "create", "a\nb", code=2).err


async def test_at_most_five_snapshots_are_named() -> None:
    async def told(storage: Storage) -> str:
        with pytest.raises(NotFound) as caught:
            await moments.known(storage, "yesterday")
        return str(caught.value)

    async with Storage.in_memory() as storage:
        assert "'yesterday' is neither" in await told(storage)
        assert "nor a snapshot; there are none. `jts-storage snapshots list`" in await told(storage)
        for number in range(5):
            await storage.snapshots.create(f"scan-{number}")
        five = "there are: scan-0, scan-1, scan-2, scan-3, scan-4"
        assert f"{five}. `jts-storage" in await told(storage)
        for number in (5, 6):
            await storage.snapshots.create(f"scan-{number}")
        assert f"{five} and 2 more. `jts-storage" in await told(storage)
        assert await moments.known(storage, "scan-6") == "scan-6"
