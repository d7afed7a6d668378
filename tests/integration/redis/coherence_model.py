"""A database, writers that may die, readers of two processes, and the cache's scripts between them.

Every step of each may come between any others. Rules are drawn equally often: so the ends of a
write are one rule, faults are one, and what makes a read stale together is also done at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
)

from jts_storage.redis.coherence import (
    BEGIN,
    END,
    FILL,
    FORMAT,
    LOOK,
    Lasting,
    Look,
    fill_arguments,
    look_arguments,
    looked,
    scope_keys,
    value_keys,
)
from jts_storage.redis.scripts import Script

PREFIX: Final = "model"
SERIES: Final = ("AAPL", "MSFT")
LEASE_MS: Final = 3_600_000

_SERIES = st.sampled_from((*SERIES, SERIES[0], SERIES[0]))
"""Only steps of one series meet, so that most are of the first."""

ENDS: Final = (
    "acknowledge",
    "acknowledge_although_redis_is_not_told",
    "die",
    "die_and_be_recovered",
)
FAULTS: Final = ("lose_marks", "evict", "lose_everything_but_marks")


@dataclass(frozen=True)
class Scripts:
    """Those of the kit, or mutants of them."""

    look: Script = LOOK
    fill: Script = FILL
    begin: Script = BEGIN
    end: Script = END


@dataclass
class Write:
    series: str
    name: str
    version: int = 0
    is_written: bool = False


@dataclass
class Read:
    """
    :param least: the version that it must not be older than.
    """

    series: str
    process: int
    least: int
    token: bytes | None = None
    version: int | None = None
    at: int = 0


@dataclass
class Process:
    held: dict[str, tuple[bytes, int]] = field(default_factory=dict)


class CoherenceModel(RuleBasedStateMachine):
    """Where marks stay, no read is older than what the database had when it began. Where marks are
    evicted, too, none is older than a commit that was acknowledged before.
    """

    client: redis.Redis
    scripts = Scripts()
    writes: Bundle[Write] = Bundle("writes")
    reads: Bundle[Read] = Bundle("reads")

    @initialize(
        target=writes, marks_stay=st.booleans(), is_kept=st.booleans(), is_marked=st.booleans()
    )
    def begin_with_a_write(self, marks_stay: bool, is_kept: bool, is_marked: bool) -> Write:
        """Each stale read needs a write, which is here from the start."""
        self.begin(marks_stay)
        if is_kept:
            self.read(SERIES[0], 1)
        write = self.announce(SERIES[0])
        if not is_marked:
            self.lose_marks(SERIES[0])
        return write

    def begin(self, marks_stay: bool) -> None:
        self.client.flushall()
        self.marks_stay = marks_stay
        self.stored = dict.fromkeys(SERIES, 0)
        self.acknowledged = dict.fromkeys(SERIES, 0)
        self.last = 0
        self.gone: list[Write] = []
        self.processes = (Process(), Process())

    # ---- writers

    @rule(target=writes, series=_SERIES)
    def begin_a_write(self, series: str) -> Write:
        return self.announce(series)

    def announce(self, series: str) -> Write:
        self.last += 1
        write = Write(series, f"writer {self.last}")
        self._tell(self.scripts.begin, write, LEASE_MS)
        return write

    @rule(target=writes, write=consumes(writes))
    def store_a_write(self, write: Write) -> Write:
        return self.store(write)

    def store(self, write: Write) -> Write:
        if not write.is_written:
            self.last += 1
            write.version, write.is_written = self.last, True
            self.stored[write.series] = write.version
        return write

    @rule(
        write=consumes(writes),
        end=st.sampled_from(ENDS),
        is_stored=st.booleans(),
        process=st.integers(0, 1),
        is_read=st.booleans(),
    )
    def end(self, write: Write, end: str, is_stored: bool, process: int, is_read: bool) -> None:
        if is_stored:
            self.store(write)
        getattr(self, end)(write)
        if is_read:
            self.read(write.series, process)

    def acknowledge(self, write: Write) -> None:
        self._tell(self.scripts.end, write, 0)
        self._acknowledged(write)

    def acknowledge_although_redis_is_not_told(self, write: Write) -> None:
        if self.marks_stay:
            self._acknowledged(write)
        self.gone.append(write)

    def die(self, write: Write) -> None:
        """Its mark stays until the lease ends."""
        self.gone.append(write)

    @precondition(lambda self: bool(self.gone))
    @rule()
    def let_leases_end(self) -> None:
        """Of those that are gone: what they sent has landed, or never will."""
        for write in self.gone:
            self.client.zrem(f"{PREFIX}:w:{write.series}", write.name)
        self.gone = []

    def die_and_be_recovered(self, write: Write) -> None:
        self.gone.append(write)
        other = Write(write.series, f"recovery of {write.name}")
        self._tell(self.scripts.begin, other, LEASE_MS)
        self.last += 1
        write.version, write.is_written = self.last, True
        self.stored[write.series] = write.version
        self._tell(self.scripts.end, other, 0)
        self._acknowledged(write)

    # ---- readers

    @rule(target=reads, series=_SERIES, process=st.integers(0, 1))
    def look(self, series: str, process: int) -> Read:
        least = (self.stored if self.marks_stay else self.acknowledged)[series]
        read = Read(series, process, least)
        held = self.processes[process].held.get(series)
        known = held[0] if held else b""
        keys = value_keys(PREFIX, (series,), "latest")
        found = looked(self._run(self.scripts.look, keys, look_arguments((series,), known, 1)))
        read.token, read.at = found.token, found.at
        if held and found.token == held[0]:
            self._is_given(read, held[1])
        elif found.token is not None and found.value is not None:
            version = int(found.value[1 + len(found.token) :])
            self._is_given(read, version)
            self.processes[process].held[series] = (found.token, version)
        return read

    @rule(target=reads, read=consumes(reads))
    def ask_the_database(self, read: Read) -> Read:
        if read.version is None:
            self._is_given(read, self.stored[read.series])
        return read

    @rule(read=consumes(reads))
    def keep(self, read: Read) -> None:
        if read.version is None or read.token is None:
            return
        value = FORMAT + read.token + str(read.version).encode()
        keys = value_keys(PREFIX, (read.series,), "latest")
        look = Look(read.token, at=read.at)
        lasts = Lasting(LEASE_MS / 1000, LEASE_MS / 1000)
        if self._run(self.scripts.fill, keys, fill_arguments((read.series,), look, value, lasts)):
            self.processes[read.process].held[read.series] = (read.token, read.version)

    @rule(series=_SERIES, process=st.integers(0, 1))
    def read(self, series: str, process: int) -> None:
        """All of one at once, as most go: alone, its three steps seldom come one after another."""
        read = self.look(series, process)
        self.keep(self.ask_the_database(read))

    # ---- faults

    @rule(
        fault=st.sampled_from(FAULTS),
        series=_SERIES,
        which=st.integers(0, 1_000),
    )
    def lose(self, fault: str, series: str, which: int) -> None:
        if fault == "evict":
            self.evict(which)
        elif fault == "lose_marks":
            self.lose_marks(series)
        else:
            self.lose_everything_but_marks()

    @precondition(lambda self: not self.marks_stay)
    @rule(series=_SERIES, process=st.integers(0, 1))
    def read_without_marks(self, series: str, process: int) -> None:
        """What is read while a write is under way must not outlive it, if its mark is gone."""
        self.lose_marks(series)
        self.read(series, process)

    def evict(self, which: int) -> None:
        keys = [key for key in sorted(self._keys()) if not self.marks_stay or b":w:" not in key]
        if keys:
            self.client.delete(keys[which % len(keys)])

    def lose_everything_but_marks(self) -> None:
        """FLUSHALL, or a failover to an empty replica, where marks may be lost, too."""
        gone = [key for key in self._keys() if not self.marks_stay or b":w:" not in key]
        if gone:
            self.client.delete(*gone)

    def lose_marks(self, series: str) -> None:
        """The clock steps over their leases, or they are evicted."""
        if not self.marks_stay:
            self.client.delete(f"{PREFIX}:w:{series}")

    # ---- inside

    def _is_given(self, read: Read, version: int) -> None:
        assert version >= read.least, f"version {version} was given, not {read.least}"
        read.version = version

    def _acknowledged(self, write: Write) -> None:
        if write.is_written:
            known = self.acknowledged[write.series]
            self.acknowledged[write.series] = max(known, write.version)

    def _tell(self, script: Script, write: Write, milliseconds: int) -> None:
        keys = scope_keys(PREFIX, (write.series,))
        self._run(script, keys, [1, write.name, milliseconds])

    def _run(self, script: Script, keys: list[str], arguments: list[Any]) -> Any:
        return self.client.eval(script.text, len(keys), *keys, *arguments)

    def _keys(self) -> list[bytes]:
        found: Any = self.client.keys(f"{PREFIX}:*")
        return list(found)
