"""Processes that share one folder, and what they say they did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jts_storage import Storage, StorageSettings
from jts_storage.testing.factories import START
from tests import forked
from tests.remote.sharing_worker import END, KEYS, candle_of

WORKER: Final = Path(__file__).with_name("sharing_worker.py")
PATIENCE: Final = 120.0
"""Seconds, on a machine with much else to do, until a process counts as stuck."""


@dataclass
class Member:
    """One process and those that took its place when it was killed."""

    role: str
    name: str
    folder: Path
    shares: bool
    kills: int = 0
    process: forked.Process | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.name}.jsonl"

    @property
    def running(self) -> forked.Process:
        assert self.process is not None
        return self.process

    def start(self) -> None:
        share = "share" if self.shares else "alone"
        told = (self.folder.parent / f"{self.name}.err").open("a")
        with told:
            self.process = forked.Process(
                [WORKER, self.role, self.name, self.folder, self.log, share],
                stdin=forked.PIPE,
                stderr=told.fileno(),
            )

    def kill(self) -> None:
        self.running.kill()
        self.running.wait(PATIENCE)
        assert self.running.stdin is not None
        self.running.stdin.close()
        self.kills += 1

    def end(self) -> None:
        """Let it close its storage; what it could not do is an error here."""
        assert self.running.stdin is not None
        self.running.stdin.close()
        assert self.running.wait(PATIENCE) == 0, self.log.read_text()[-2_000:]

    def lines(self) -> list[dict[str, Any]]:
        """All it said; a line that a kill cut off is none."""
        if not self.log.exists():
            return []
        whole = self.log.read_text().splitlines(keepends=True)
        self.seen = [json.loads(line) for line in whole if line.endswith("}\n")]
        return self.seen

    def acknowledged(self) -> list[int]:
        return [line["number"] for line in self.lines() if line["what"] == "committed"]

    def did(self) -> int:
        return sum(line["what"] in ("read", "committed") for line in self.lines())

    def goes_on(self, more: int = 2) -> float:
        """Wait until it has done something more; after how many seconds."""
        began, before = time.monotonic(), self.did()
        wait_for(lambda: self.did() >= before + more, self)
        return time.monotonic() - began


def wait_for(is_so: Callable[[], bool], member: Member) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        code = member.running.poll()
        assert code is None, f"{member.name} ended with {code}: {member.lines()[-3:]}"
        assert time.monotonic() < end, f"{member.name} is stuck: {member.lines()[-3:]}"
        time.sleep(0.02)


@contextmanager
def members(folder: Path, *wanted: tuple[str, str, bool]) -> Iterator[list[Member]]:
    """Processes of (role, name, whether it shares); none outlives the block."""
    made = [Member(role, name, folder, shares) for role, name, shares in wanted]
    try:
        yield made
    finally:
        for member in made:
            if member.process is not None and member.process.poll() is None:
                member.kill()


async def check_books(settings: StorageSettings, made: list[Member]) -> None:
    """Nothing that was acknowledged is lost, and nothing is there twice."""
    async with Storage.open(settings) as storage:
        for member in made:
            if member.role == "scanner":
                continue
            found = await storage.ingestion.checkpoints.get(member.name)
            count = found.data["count"] if found is not None else 0
            told = member.acknowledged()
            assert told == sorted(set(told)), "a commit was acknowledged twice"
            assert set(told) <= set(range(count)), "an acknowledged commit is lost"
            # What a process had under way when it was killed, nobody was told.
            assert count - len(told) <= member.kills
            if member.role == "collector":
                for key in KEYS:
                    series = await storage.candles.get_range(key, START, END)
                    assert list(series) == [candle_of(number) for number in range(count)]
