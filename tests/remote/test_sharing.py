"""Several processes on one embedded folder: a collector, a scanner, notebooks, and kill -9."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from jts_storage import StorageSettings
from tests.prepared import Prepared
from tests.remote.sharing import Member, check_books, members

NOTEBOOKS = [("notebook", "first", True), ("notebook", "second", False)]


@pytest.fixture
def folder(tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]) -> Path:
    engine_used("chDB")
    engine_used("SQLite")
    prepared.copy(tmp_path / "data")
    (tmp_path / "data").chmod(0o700)
    return tmp_path / "data"


async def test_notebooks_and_a_scanner_beside_a_collector(folder: Path) -> None:
    with members(folder, ("collector", "collector", True), ("scanner", "scanner", False)) as made:
        collector, scanner = made
        collector.start()
        collector.goes_on()
        with members(folder, *NOTEBOOKS) as notebooks:
            for member in (scanner, *notebooks):
                member.start()
            for member in (collector, scanner, *notebooks):
                member.goes_on()
            for member in (*reversed(notebooks), scanner, collector):
                member.end()
            assert [line["remote"] for line in scanner.lines() if line["what"] == "open"] == [True]
            await check_books(StorageSettings(data_dir=folder), [*made, *notebooks])


@pytest.mark.slow
async def test_a_reader_goes_on_when_the_collector_is_killed(folder: Path) -> None:
    await _with_kills(folder, ["collector"])


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_any_of_them_is_killed_again_and_again(folder: Path) -> None:
    seed = int(os.environ.get("SHARING_SEED", "7"))
    rounds = int(os.environ.get("SHARING_ROUNDS", "40"))
    names = ["collector", "scanner", "first", "second"]
    chosen = random.Random(seed)
    await _with_kills(folder, [chosen.choice(names) for _ in range(rounds)])


async def _with_kills(folder: Path, victims: list[str]) -> None:
    wanted = [("collector", "collector", True), ("scanner", "scanner", True), *NOTEBOOKS]
    with members(folder, *wanted) as made:
        for member in made:
            member.start()
            member.goes_on(1)
        for name in victims:
            _kill(made, name)
        for member in sorted(made, key=lambda each: each.shares):  # who shares is left last
            member.end()
        await check_books(StorageSettings(data_dir=folder), made)


def _kill(made: list[Member], name: str) -> None:
    """Kill one; the others go on, and so does the one that takes its place."""
    victim = next(member for member in made if member.name == name)
    victim.kill()
    gaps = [f"{each.name} {each.goes_on():.2f} s" for each in made if each is not victim]
    print(f"without {name}:", ", ".join(gaps))
    victim.start()
    victim.goes_on()
