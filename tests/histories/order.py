"""The graph of a history: what each observation says about the order of commits.

A read outside of a transaction, or of a store without a snapshot, says two things only. What it
saw was decided before it ended; and whoever was acknowledged before it began, and wrote the same
object, wrote it before whatever the read found there. That it misses what another store already
shows is no anomaly: stores show a commit that is decided one after the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.histories.graph import Begin, Commit, Graph, Moment, Node
from tests.histories.history import END, History, Read, Transaction, Write, store_of


@dataclass(slots=True)
class Chain:
    """Who replaced whom in one object that is read before it is written.

    :param after: by the transaction whose value was replaced, who replaced it.
    """

    after: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    created: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Writers:
    """Who wrote and who removed one object, by the time at which they were told so."""

    put: list[Transaction] = field(default_factory=list)
    erased: list[Transaction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gone:
    """A row that was stored and is not there, though nobody erased it."""

    object: str
    writers: tuple[int, ...]
    seen_by: str
    at_the_end: bool


class Order:
    """Builds the graph. `committed` are the transactions that are stored."""

    def __init__(self, history: History, committed: set[int]) -> None:
        self.history = history
        self.graph = Graph()
        self.gone: list[Gone] = []
        self.dangling: list[tuple[int, int, str, str]] = []
        self._known = history.transactions
        self._committed = committed
        self.chains: dict[str, Chain] = defaultdict(Chain)
        self._writers: dict[str, Writers] = defaultdict(Writers)
        self._may_erase: dict[str, list[Transaction]] = defaultdict(list)
        self._erase_first: dict[str, list[Transaction]] = defaultdict(list)
        for transaction in history.transactions.values():
            self._note_eraser(transaction)
        for tx in sorted(committed):
            for write in self._known[tx].writes:
                self._note(self._known[tx], write)
        for writers in self._writers.values():
            writers.put.sort(key=lambda transaction: transaction.acknowledged)
            writers.erased.sort(key=lambda transaction: transaction.acknowledged)

    def build(self) -> Graph:
        self._add_chains()
        self._add_references()
        for tx in self._committed:
            self.graph.add(Begin(tx), Commit(tx), "")
        for tx in self._committed:
            for read in self._known[tx].reads:
                self._add_seen(tx, read)
        reads = [read for read in self.history.all_reads if not _is_snapshot(read)]
        for read in reads:
            self._add_read(read)
        self._add_read(Read("final", END, END, self.history.final.values))
        self._add_deliveries()
        self._add_time(reads)
        return self.graph

    def _note_eraser(self, transaction: Transaction) -> None:
        """Unknown ones too: they may be stored without a trace."""
        if transaction.answer in ("ok", "decided", "unknown"):
            for write in transaction.writes:
                if write.how in ("erase", "remove"):
                    self._may_erase[write.object].append(transaction)
                elif write.erased:
                    self._erase_first[write.object].append(transaction)

    def _note(self, transaction: Transaction, write: Write) -> None:
        writers = self._writers[write.object]
        (writers.put if write.how in ("put", "append") else writers.erased).append(transaction)
        if write.how in ("put", "erase"):
            return
        chain = self.chains[write.object]
        if write.replaced:
            chain.after[write.replaced].append(transaction.id)
        else:
            chain.created.append(transaction.id)

    def _add_chains(self) -> None:
        for name, chain in self.chains.items():
            for before, after in chain.after.items():
                for tx in after:
                    self._add(before, tx, f"{tx} replaced what {before} had left in {name}")
        for name, values in self.history.final.lists.items():
            for earlier, later in pairwise(values):
                self._add(earlier, later, f"{name} lists {earlier} before {later}")

    def _add(self, before: int, after: int, why: str) -> None:
        """One transaction committed before another did."""
        self.graph.add(Commit(before), Commit(after), why)

    def _add_references(self) -> None:
        """A formula can be deleted before a strategy refers to it, or after it no longer does."""
        deleted = {
            write.object.partition(":")[2]: tx
            for tx in sorted(self._committed)
            for write in self._known[tx].writes
            if write.how == "remove" and write.object.startswith("formula:")
        }
        for tx in sorted(self._committed):
            for write in self._known[tx].writes:
                for formula in write.refers:
                    deleter = deleted.get(formula)
                    if deleter is not None and deleter != tx:
                        self._add_reference(tx, write.object, formula, deleter)

    def _add_reference(self, tx: int, strategy: str, formula: str, deleter: int) -> None:
        why = f"{tx} had {strategy} refer to formula:{formula}, which {deleter} deleted"
        self._add(tx, deleter, why)
        following = self.chains[strategy].after.get(tx, [])
        if not following and formula in self.history.final.refers.get(strategy, ()):
            self.dangling.append((tx, deleter, strategy, formula))
        for later in following:
            still = any(
                w.object == strategy and formula in w.refers for w in self._known[later].writes
            )
            if not still:
                self._add(later, deleter, f"{why}, and so it did until {later}")

    def _add_seen(self, tx: int, read: Read) -> None:
        for name, value in read.values.items():
            reader: Node = Begin(tx) if _is_snapshot(read) else Commit(tx)
            if value and value != tx:
                self.graph.add(Commit(value), reader, f"{tx} read what {value} had left in {name}")
            if isinstance(reader, Begin):
                self._add_missed(tx, name, value)

    def _add_missed(self, tx: int, name: str, value: int) -> None:
        for later in self.chains[name].after.get(value, ()) if value else ():
            if later != tx:
                why = f"{tx} did not see that {later} had replaced {value} in {name}"
                self.graph.add(Begin(tx), Commit(later), why)

    def _add_read(self, read: Read) -> None:
        # At the end, what is read before it is written is judged by its chain.
        is_final = read.began == END
        for name in self._writers if is_final else read.values:
            if name in self._writers and not (is_final and name in self.chains):
                self._add_object(read, name, read.values.get(name, 0))
        self._add_inserts(read)

    def _add_object(self, read: Read, name: str, value: int) -> None:
        writers = self._writers[name]
        earlier = _done_before(writers.put, read, value)
        if not value:
            self._add_absence(read, name, earlier)
            return
        for other in earlier:
            why = f"{_named(read)} found {value} in {name}, where {other.id} had written before"
            self._add(other.id, value, why)
        for other in _done_before(writers.erased, read, value):
            why = f"{_named(read)} found {value} in {name}, which {other.id} had erased before"
            self._add(other.id, value, why)

    def _add_absence(self, read: Read, name: str, writers: Sequence[Transaction]) -> None:
        """What was written is not there: somebody has erased it since."""
        if not writers:
            return
        possible = [
            eraser
            for eraser in self._may_erase[name]
            if eraser.began < read.ended
            and not any(eraser.acknowledged < writer.began for writer in writers)
        ]
        possible += [
            under_way
            for under_way in self._erase_first[name]
            if under_way.began < read.ended
            and under_way.acknowledged >= read.began != END
            and under_way not in writers
        ]
        if not possible:
            numbers = tuple(writer.id for writer in writers)
            self.gone.append(Gone(name, numbers, _named(read), read.began == END))
        elif len(possible) == 1:
            for writer in writers:
                why = f"{_named(read)} found {name} gone: only {possible[0].id} can have erased it"
                self._add(writer.id, possible[0].id, f"{why}, after {writer.id} wrote it")

    def _add_inserts(self, read: Read) -> None:
        """What one transaction wrote into one series is seen in whole, or as others replaced it."""
        for tx in set(read.values.values()) & self._committed:
            writes = [w for w in self._known[tx].writes if w.how == "put"]
            shown = {_series(w.object) for w in writes if read.values.get(w.object, 0) == tx}
            for write in writes:
                seen = read.values.get(write.object, 0 if read.began == END else None)
                if seen is None or seen == tx or _series(write.object) not in shown:
                    continue
                if seen:
                    why = f"{_named(read)} found {tx} beside {seen} in rows that {tx} wrote at once"
                    self._add(tx, seen, why)
                else:
                    self._add_absence(read, write.object, [self._known[tx]])

    def _add_deliveries(self) -> None:
        """Only the first delivery of an event counts: repetitions are allowed."""
        seen: set[tuple[str, int, int]] = set()
        latest: dict[str, int] = {}
        for delivery in self.history.deliveries:
            event = (delivery.key, delivery.tx, delivery.number)
            if event in seen:
                continue
            seen.add(event)
            before = latest.get(delivery.key)
            if before is not None:
                why = f"event {delivery.key} of {before} came before that of {delivery.tx}"
                self._add(before, delivery.tx, why)
            latest[delivery.key] = delivery.tx

    def _add_time(self, reads: Iterable[Read]) -> None:
        """What was acknowledged, or seen, comes before the snapshot of what began later."""
        committed = [self._known[tx] for tx in sorted(self._committed)]
        ends = [(t.acknowledged, t.id) for t in committed if t.acknowledged < END]
        for read in reads:
            ends += [
                (read.ended, value)
                for value in {*read.values.values()} & self._committed
                if value != read.tx
            ]
        times = sorted({at for at, _ in ends})
        for earlier, later in pairwise(times):
            self.graph.add(Moment(earlier), Moment(later), "")
        for at, tx in ends:
            self.graph.add(Commit(tx), Moment(at), "")
        for transaction in committed:
            position = bisect_left(times, transaction.began)
            if position:
                self.graph.add(Moment(times[position - 1]), Begin(transaction.id), "")


def _done_before(writers: Sequence[Transaction], read: Read, value: int) -> list[Transaction]:
    """Who had written a row before it was read; none that another of them follows anyway."""
    others = [writer for writer in writers if writer.id != value]
    if read.began == END:
        return others
    found: list[Transaction] = []
    earliest = END
    for writer in reversed(others):
        if writer.acknowledged < earliest and found:
            break
        if writer.acknowledged < read.began:
            found.append(writer)
            earliest = min(earliest, writer.began)
    return found


def _is_snapshot(read: Read) -> bool:
    return bool(read.tx) and all(store_of(name) == "documents" for name in read.values)


def _series(name: str) -> str:
    return name.rpartition("/")[0]


def _named(read: Read) -> str:
    if read.began == END:
        return "the final read"
    where = f"a read within {read.tx}" if read.tx else "a read"
    return f"{where} by {read.client} at {read.began:.3f}"
