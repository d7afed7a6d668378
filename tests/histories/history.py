"""What was recorded of a run, and what was stored at its end: the input of the checker.

Every write carries the number of its transaction (one unit of work), so that whatever is read
later tells who wrote it. An object is named by its kind and its key, such as ``candle:A/3``.
Its value is the number of the transaction that wrote it last, or 0 if nothing is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Answer: TypeAlias = Literal["ok", "decided", "unknown", "conflict", "failed"]
"""What the caller of a commit was told.

``decided``: it will be there once it is recovered. ``unknown``: it is there or not, in whole, as
for a process that was killed during its commit. ``conflict`` and ``failed``: it is not there.
"""
How: TypeAlias = Literal["append", "remove", "put", "erase"]
"""``append`` and ``remove`` change what the unit of work has read; ``put`` and ``erase`` do not."""

END = float("inf")
STORES = {
    "formula": "documents",
    "strategy": "documents",
    "checkpoint": "bookkeeping",
    "aggregate": "bookkeeping",
    "bar": "bookkeeping",
    "candle": "series",
    "symbol": "series",
    "order": "documents",
    "balance": "bookkeeping",
    "figure": "series",
    "tick": "series",
}


def store_of(name: str) -> str:
    return STORES[name.partition(":")[0]]


@dataclass(frozen=True, slots=True)
class Write:
    """One effect of a transaction on one object, the last one where there were several.

    :param replaced: the value that was read before it was replaced; 0 if nothing was there.
    :param refers: the formulas that a strategy uses from then on.
    :param erased: whether it erased the object before it put it: the two are stored one after the
        other, so a reader may find nothing in between.
    """

    object: str
    how: How
    replaced: int = 0
    refers: tuple[str, ...] = ()
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Objects that one call read at once: rows of one series, or one document.

    :param tx: the transaction it belongs to; 0 for a read outside of a unit of work.
    :param lengths: how many values had been appended, where the object tells.
    """

    client: str
    began: float
    ended: float
    values: Mapping[str, int]
    tx: int = 0
    lengths: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One unit of work as its client saw it; `ended` is END where no answer came."""

    id: int
    client: str
    began: float
    ended: float = END
    answer: Answer = "unknown"
    writes: tuple[Write, ...] = ()
    reads: tuple[Read, ...] = ()
    events: tuple[tuple[str, int], ...] = ()
    error: str = ""

    @property
    def acknowledged(self) -> float:
        """When it was known to be in every store; END if never."""
        return self.ended if self.answer == "ok" else END


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event reached a handler: the `number`-th of its transaction under its key."""

    at: float
    key: str
    tx: int
    number: int


@dataclass(frozen=True, slots=True)
class Cached:
    """What the cache of one process said of itself between two moments.

    :param given: how many answers it gave in place of the stores.
    :param untold: whether it counted a commit that Redis could not be told of.
    """

    since: float
    at: float
    given: int
    untold: bool


@dataclass(frozen=True, slots=True)
class Final:
    """Everything that is stored when all have ended and every commit has been recovered.

    :param found: each stored object with its value; one that is found twice is listed twice.
    :param lists: all transactions that ever appended to an object, in the order it tells.
    :param refers: the formulas that each strategy uses.
    :param unfinished: what nobody would finish or deliver, in words.
    """

    found: tuple[tuple[str, int], ...] = ()
    lists: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    refers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unfinished: str = ""

    @property
    def values(self) -> dict[str, int]:
        return dict(self.found)


@dataclass(frozen=True, slots=True)
class History:
    """:param surprises: tracebacks of errors that are not the kit's, but came out of it."""

    transactions: Mapping[int, Transaction]
    reads: tuple[Read, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    final: Final = Final()
    surprises: tuple[str, ...] = ()
    cached: tuple[Cached, ...] = ()

    @property
    def all_reads(self) -> Iterable[Read]:
        yield from self.reads
        for transaction in self.transactions.values():
            yield from transaction.reads


def to_line(what: str, **fields: Any) -> str:
    return json.dumps({"is": what, **fields}, default=asdict) + "\n"


def from_lines(lines: Iterable[str], final: Final) -> History:
    """The history that the lines of all processes tell; a last line cut by a kill is left out."""
    parsed = [line for line in map(_parsed, lines) if line is not None]
    begun = {line["tx"]: line for line in parsed if line["is"] == "begin"}
    intents = {line["tx"]: line for line in parsed if line["is"] == "commit"}
    ends = {line["tx"]: line for line in parsed if line["is"] == "end"}
    transactions = {
        tx: _transaction(tx, line, intents.get(tx), ends.get(tx)) for tx, line in begun.items()
    }
    reads = tuple(_read(line) for line in parsed if line["is"] == "read")
    deliveries = [
        Delivery(line["at"], line["key"], line["tx"], line["number"])
        for line in parsed
        if line["is"] == "delivered"
    ]
    deliveries.sort(key=lambda delivery: delivery.at)
    surprises = tuple(line["error"] for line in parsed if line["is"] == "surprise")
    cached = tuple(
        Cached(line["since"], line["at"], line["given"], line["untold"])
        for line in parsed
        if line["is"] == "cache"
    )
    return History(transactions, reads, tuple(deliveries), final, surprises, cached)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def _transaction(
    tx: int, begun: dict[str, Any], intent: dict[str, Any] | None, end: dict[str, Any] | None
) -> Transaction:
    """A process that was killed before it called `commit` has stored nothing."""
    known = intent or {}
    return Transaction(
        tx,
        begun["client"],
        begun["at"],
        end["at"] if end else END,
        end["answer"] if end else "unknown" if intent else "failed",
        tuple(
            Write(w["object"], w["how"], w["replaced"], tuple(w["refers"]), w["erased"])
            for w in known.get("writes", ())
        ),
        tuple(map(_read, known.get("reads", ()))),
        tuple((key, number) for key, number in known.get("events", ())),
        end.get("error", "") if end else "",
    )


def _read(line: Mapping[str, Any]) -> Read:
    return Read(
        line["client"], line["began"], line["ended"], line["values"], line["tx"], line["lengths"]
    )
