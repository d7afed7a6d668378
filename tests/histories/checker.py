"""Judges a history: pure functions over what was recorded and what is stored at the end.

What is promised, and therefore looked for:

- *lost*: what was acknowledged is stored, or a later write explains its absence;
- *half*: the effects of one unit of work are there in every store, or in none;
- *doubled*: nothing is stored twice;
- *dirty*: nothing is seen or stored of a unit of work that was told to have failed;
- *dangling*: a strategy does not refer to a formula that was deleted;
- *order*: one order of commits explains what every store holds and every read saw;
- *event*: each event of what is stored reaches a handler at least once, and those of one key in
  the order of the commits;
- *unfinished*: once faults have ended, every commit is finished and every event delivered;
- *error*: nothing but the kit's own errors leaves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.histories.graph import Edge
from tests.histories.history import History, Transaction, Write, store_of
from tests.histories.order import Order
from tests.histories.words import cycle_in_words, in_words

KINDS = ("lost", "half", "doubled", "dirty", "dangling", "order", "event", "unfinished", "error")
STORED = ("ok", "decided")
NOT_STORED = ("conflict", "failed")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, in words, with the smallest part of the history that shows it."""

    kind: str
    transactions: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def judge(history: History) -> list[Violation]:
    """Everything in the history that must not be, the worst kinds first."""
    return sorted(_Judge(history).violations(), key=lambda found: KINDS.index(found.kind))


class _Judge:
    def __init__(self, history: History) -> None:
        self.history = history
        self.values = history.final.values
        self.lists = {name: frozenset(seen) for name, seen in history.final.lists.items()}
        self.told: set[tuple[int, str]] = set()
        self.observed = _observed(history)
        self.committed = _committed(history, self.observed)
        self.order = Order(history, self.committed)
        self.forked = {
            name
            for name, chain in self.order.chains.items()
            if any(len(after) > 1 for after in chain.after.values())
        }
        self.removable = self._written("remove")
        self.erasable = self._written("erase")
        self.put = Counter(
            write.object
            for tx in self.committed
            for write in history.transactions[tx].writes
            if write.how == "put"
        )

    def violations(self) -> Iterator[Violation]:
        if self.history.final.unfinished:
            yield Violation("unfinished", (), self.history.final.unfinished)
        for surprise in self.history.surprises:
            yield Violation("error", (), surprise)
        yield from self._dirty()
        yield from self._doubled()
        for tx in sorted(self.committed):
            yield from self._whole(self.history.transactions[tx])
        yield from self._replaced_twice()
        yield from self._reads_of_lists()
        yield from self._events()
        graph = self.order.build()
        for gone in self.order.gone:
            if gone.at_the_end and {(tx, gone.object) for tx in gone.writers} & self.told:
                continue
            text = f"{gone.object} is gone for {gone.seen_by}, and nobody erased it"
            yield self._violation("lost", gone.writers, text)
        for tx, deleter, strategy, formula in self.order.dangling:
            text = f"{strategy} refers to formula:{formula}, which {deleter} deleted"
            yield self._violation("dangling", (tx, deleter), text)
        for cycle in graph.cycles():
            yield self._cycle(cycle)

    def _written(self, how: str) -> Counter[str]:
        """How many may have removed each object, whether they know that they did or not."""
        return Counter(
            write.object
            for transaction in self.history.transactions.values()
            if transaction.answer not in NOT_STORED
            for write in transaction.writes
            if write.how == how
        )

    def _dirty(self) -> Iterator[Violation]:
        for tx, where in self.observed.items():
            transaction = self.history.transactions.get(tx)
            if transaction is None:
                yield Violation("dirty", (tx,), f"{where}, which no unit of work has written")
            elif transaction.answer in NOT_STORED:
                text = f"{where}, though its caller was told: {transaction.answer}"
                yield self._violation("dirty", (tx,), text)

    def _doubled(self) -> Iterator[Violation]:
        for name, times in Counter(name for name, _ in self.history.final.found).items():
            if times > 1:
                yield self._violation("doubled", (), f"{name} is stored {times} times")
        for name, values in self.history.final.lists.items():
            for tx, times in Counter(values).items():
                if times > 1:
                    yield self._violation("doubled", (tx,), f"{name} has {tx} {times} times")

    def _whole(self, transaction: Transaction) -> Iterator[Violation]:
        """Whether all of a stored transaction is there, as far as nothing later hides it."""
        seen = {write: self._is_there(transaction.id, write) for write in transaction.writes}
        missing = [write for write, there in seen.items() if there is False]
        if not missing:
            return
        self.told |= {(transaction.id, write.object) for write in missing}
        listed = ", ".join(write.object for write in missing)
        others = [write.object for write, there in seen.items() if there is not False]
        if others and {store_of(w.object) for w in missing} != {store_of(name) for name in others}:
            text = f"{listed} of {transaction.id} missing, but not {', '.join(others)}"
            yield self._violation("half", (transaction.id,), text)
        elif transaction.answer in STORED:
            yield self._violation("lost", (transaction.id,), f"{listed} of {transaction.id} lost")
        else:
            text = f"{listed} of {transaction.id} missing, but it was seen: "
            yield self._violation("half", (transaction.id,), text + self.observed[transaction.id])

    def _is_there(self, tx: int, write: Write) -> bool | None:
        """None where a later write may have hidden it."""
        name = write.object
        value = self.values.get(name, 0)
        if name in self.forked:
            return None  # told of once, where the two that collide are known
        if write.how == "append":
            if name in self.lists:
                return tx in self.lists[name]
            if value == tx or self.order.chains[name].after.get(tx):
                return True
            return None if name in self.removable else False
        if write.how == "put":
            if value == tx:
                return True
            return None if self.put[name] > 1 or name in self.erasable else False
        if write.how == "remove" and value == write.replaced:
            return False
        return None

    def _replaced_twice(self) -> Iterator[Violation]:
        for name, chain in self.order.chains.items():
            for before, after in chain.after.items():
                if len(after) > 1:
                    both = " and ".join(map(str, after))
                    text = f"{both} each replaced what {before} had left in {name}: one is lost"
                    yield self._violation("lost", (before, *after, *self._among(name, after)), text)
            if len(chain.created) > 1 + self.removable[name]:
                both = " and ".join(map(str, chain.created))
                text = f"{both} each found no {name} and made it: one is lost"
                yield self._violation("lost", tuple(chain.created), text)

    def _among(self, name: str, colliding: list[int]) -> list[int]:
        """Who else changed the object while those who collide were at work."""
        known = self.history.transactions
        first = min(known[tx].began for tx in colliding)
        last = max(known[tx].ended for tx in colliding)
        chain = self.order.chains[name]
        writers = {*chain.created, *(tx for after in chain.after.values() for tx in after)}
        return sorted(tx for tx in writers if known[tx].ended > first and known[tx].began < last)

    def _reads_of_lists(self) -> Iterator[Violation]:
        for read in self.history.all_reads:
            for name, length in read.lengths.items():
                final = self.history.final.lists.get(name)
                value = read.values[name]
                if final is None or value not in self.committed or name in self.forked:
                    continue
                if length > len(final) or final[length - 1] != value:
                    text = (
                        f"{read.client} read {length} values in {name}, the last of {value};"
                        f" at the end {value} is not in that place"
                    )
                    yield self._violation("order", (value,), text)

    def _events(self) -> Iterator[Violation]:
        delivered = {(d.tx, d.key, d.number) for d in self.history.deliveries}
        first: dict[tuple[int, str], int] = {}
        for delivery in self.history.deliveries:
            before = first.get((delivery.tx, delivery.key), -1)
            if delivery.number > before + 1:
                text = f"event {delivery.number} of {delivery.key} came before {before + 1}"
                yield self._violation("event", (delivery.tx,), text)
            first[delivery.tx, delivery.key] = max(before, delivery.number)
        if self.history.final.unfinished:
            return  # told of already
        for tx in sorted(self.committed):
            for key, number in self.history.transactions[tx].events:
                if (tx, key, number) not in delivered:
                    text = f"event {number} of {tx} under {key} never reached a handler"
                    yield self._violation("event", (tx,), text)

    def _cycle(self, cycle: list[Edge]) -> Violation:
        text, involved = cycle_in_words(cycle)
        kind = "order"
        if any(edge.why.startswith("event ") for edge in cycle):
            kind = "event"
        elif any(" refer to " in edge.why for edge in cycle):
            kind = "dangling"
        return self._violation(kind, involved, text)

    def _violation(self, kind: str, involved: Iterable[int], text: str) -> Violation:
        numbers = tuple(dict.fromkeys(involved))
        known = self.history.transactions
        told = [in_words(known[tx], text) for tx in numbers if tx in known]
        return Violation(kind, numbers, "\n    ".join([text, *told]))


def _observed(history: History) -> dict[int, str]:
    """Every transaction of which something was seen, and where first."""
    found: dict[int, str] = {}
    for name, value in history.final.found:
        if value:
            found.setdefault(value, f"{name} holds what {value} wrote at the end")
    for name, values in history.final.lists.items():
        for value in values:
            found.setdefault(value, f"{name} lists {value} at the end")
    for read in history.all_reads:
        for name, value in read.values.items():
            if value:
                text = f"{read.client} read what {value} had left in {name} at {read.began:.3f}"
                found.setdefault(value, text)
    for delivery in history.deliveries:
        found.setdefault(delivery.tx, f"its event under {delivery.key} was delivered")
    return found


def _committed(history: History, observed: Iterable[int]) -> set[int]:
    known = history.transactions
    stored = {tx for tx, transaction in known.items() if transaction.answer in STORED}
    stored |= {tx for tx in observed if tx in known and known[tx].answer == "unknown"}
    # Who alone can have deleted a document that is gone has done so.
    values = history.final.values
    removers: dict[str, list[int]] = {}
    for tx, transaction in known.items():
        if transaction.answer not in NOT_STORED:
            for write in transaction.writes:
                if write.how == "remove" and write.object.startswith("formula:"):
                    removers.setdefault(write.object, []).append(tx)
    stored |= {who[0] for name, who in removers.items() if name not in values and len(who) == 1}
    return stored
