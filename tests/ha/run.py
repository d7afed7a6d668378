"""Rounds of histories over nodes that die, with figures.

``python -m tests.ha.run mongo --seconds 300 --election 10`` kills and stops the primary of a
replica set of three; ``--ask '&readConcernLevel=local'`` adds to the URL that the workers use.
``python -m tests.ha.run postgres --asynchronous`` does so to a primary without a synchronous
standby, ``python -m tests.ha.run redis`` to that of sentinels, in which reads are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

from jts_storage.local_servers.mongod import LocalMongod
from tests.ha.mongo_faults import KINDS as SET_KINDS
from tests.ha.mongo_faults import SetFaults
from tests.ha.mongo_set import MongoSet
from tests.ha.postgres_faults import KINDS as PAIR_KINDS
from tests.ha.postgres_faults import PairFaults
from tests.ha.postgres_pair import Pair
from tests.ha.redis_faults import KINDS as SENTINEL_KINDS
from tests.ha.redis_faults import SentinelFaults
from tests.ha.redis_set import SentinelSet
from tests.ha.servers import Stores
from tests.ha.standstill import Struck, standstills
from tests.histories.checker import STORED
from tests.histories.faults import Strikes
from tests.histories.history import History, Read, store_of
from tests.histories.run import Outcome, Plan, run_round, shown

WORK = ("ledger", "candles", "checkpoint", "event")
"""Kinds of work whose units write a document, candles and a checkpoint."""

CACHED = ("candles", "symbol", "ledger")
"""Kinds of work whose reads a cache answers, and one that shows whether commits are whole."""

MAX_STALE = 2.0
"""Seconds; the least that leaves most reads to be judged, where some commits were not told."""


class Faults(Strikes, Protocol):
    """Strikes that are remembered with their times."""

    struck: list[Struck]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Stores to work on, and what befalls one of them.

    :param touches: the store that this is, as `history.STORES` has it: what writes nothing to it
        goes on meanwhile.
    :param promised: of a cache, if the workers have one.
    :param redis_url: where it keeps what they read.
    """

    stores: Stores
    faults: Faults
    touches: str
    promised: OfACache | None = None
    redis_url: str = ""


@contextmanager
def mongo_nodes(
    folder: Path,
    seed: str,
    *,
    election: float = 10.0,
    kinds: Sequence[str] = (),
    ask: str = "",
    **given: float,
) -> Iterator[Nodes]:
    """A replica set of three.

    :param ask: options that the workers' URL has in addition.
    :param given: further parameters of `SetFaults`.
    """
    with (
        MongoSet(folder / "set", election=election) as members,
        Stores(folder, {"mongo_url": members.url}, asked={"mongo_url": ask}) as stores,
    ):
        chosen = tuple(kinds) or SET_KINDS
        yield Nodes(stores, SetFaults(members, Random(seed), kinds=chosen, **given), "documents")


@contextmanager
def postgres_nodes(
    folder: Path,
    seed: str,
    *,
    synchronous: bool = True,
    kinds: Sequence[str] = (),
    **given: float,
) -> Iterator[Nodes]:
    """A primary and its standby.

    :param given: further parameters of `PairFaults`.
    """
    with (
        LocalMongod.acquire(folder / "mongod") as mongod,
        Pair(synchronous=synchronous) as pair,
        Stores(folder, {"mongo_url": mongod.uri, "database_url": pair.url}) as stores,
    ):
        chosen = tuple(kinds) or PAIR_KINDS
        yield Nodes(stores, PairFaults(pair, Random(seed), kinds=chosen, **given), "bookkeeping")


@contextmanager
def redis_nodes(
    folder: Path,
    seed: str,
    *,
    coherence: str = "strict",
    kinds: Sequence[str] = (),
    all_reads: bool = False,
    patience: int = 1_000,
    options: Mapping[str, str] | None = None,
    **given: float,
) -> Iterator[Nodes]:
    """Redis with sentinels, in which the workers keep what they read.

    :param coherence: as in `RedisConfig`.
    :param all_reads: as in `OfACache`.
    :param patience: as in `SentinelSet`.
    :param options: as in `SentinelSet`.
    :param given: further parameters of `SentinelFaults`.
    """
    with (
        LocalMongod.acquire(folder / "mongod") as mongod,
        SentinelSet(folder / "redis", patience=patience, options=options or {}) as servers,
    ):
        cache = f"{servers.url}?coherence={coherence}&max_stale={MAX_STALE:g}&lease=2&timeout=0.5"
        with Stores(folder, {"mongo_url": mongod.uri}, asked={"redis_url": cache}) as stores:
            chosen = tuple(kinds) or SENTINEL_KINDS
            faults = SentinelFaults(servers, Random(seed), kinds=chosen, **given)
            promise = OfACache(servers, all_reads=all_reads)
            yield Nodes(stores, faults, "series", promise, servers.url)


def round_of(nodes: Nodes, plan: Plan, name: str) -> Outcome:
    promised = nodes.promised or without_reads_in_vain
    return run_round(nodes.stores, plan, name, strikes=nodes.faults, promised=promised)


class OfACache:
    """What a cache promises, which is what there is to be judged.

    Left out are reads outside of units of work, which it answers, while what was read before may be
    older than a commit: while a commit that Redis was not told of is counted, and while there are
    two primaries, each for `max_stale` longer.

    :param all_reads: leave none out, to see what happens in those windows.
    :ivar judged: how many reads were left in.
    :ivar passed_over: how many were left out.
    """

    def __init__(self, servers: SentinelSet, *, all_reads: bool = False) -> None:
        self._servers = servers
        self._all_reads = all_reads
        self.judged = self.passed_over = 0

    def __call__(self, history: History) -> History:
        spans = [] if self._all_reads else self.spans(history)
        kept = tuple(read for read in history.reads if not self._may_be_old(read, spans))
        of_it = sum(map(_is_cached, kept))
        self.passed_over += len(history.reads) - len(kept)
        self.judged += of_it
        return replace(history, reads=kept)

    def spans(self, history: History) -> list[tuple[float, float]]:
        """From when until when a commit may leave something old behind."""
        untold = [(each.since, each.at) for each in history.cached if each.untold]
        return sorted([*untold, *self._servers.two_primaries()])

    @staticmethod
    def _may_be_old(read: Read, spans: Sequence[tuple[float, float]]) -> bool:
        if not _is_cached(read):
            return False
        return any(
            since <= read.ended and read.began <= until + MAX_STALE for since, until in spans
        )


def _is_cached(read: Read) -> bool:
    return "series" in {store_of(name) for name in read.values}


def without_reads_in_vain(history: History) -> History:
    """Without what units of work read that were not committed.

    A transaction of MongoDB reads what its primary has, and learns by its commit alone whether
    that stays, whatever read concern it asks for.
    """
    return replace(
        history,
        transactions={
            number: each if each.answer in STORED else replace(each, reads=())
            for number, each in history.transactions.items()
        },
    )


def stood_still(nodes: Nodes, outcome: Outcome) -> dict[str, list[float]]:
    """Of each kind of fault, for how many seconds each of them let no commit be acknowledged."""
    acknowledged = [
        t.ended
        for t in outcome.history.transactions.values()
        if t.answer == "ok" and nodes.touches in {store_of(write.object) for write in t.writes}
    ]
    found = defaultdict(list)
    for kind, seconds in standstills(nodes.faults.struck, acknowledged):
        found[kind].append(round(seconds, 2))
    return dict(found)


def told_of(cache: OfACache, outcome: Outcome) -> dict[str, int]:
    """What became of the reads that a cache may answer, and how many it did."""
    given = sum(each.given for each in outcome.history.cached)
    return {"judged": cache.judged, "passed over": cache.passed_over, "answered by it": given}


def _nodes(folder: Path, options: argparse.Namespace) -> AbstractContextManager[Nodes]:
    given: dict[str, Any] = {"kinds": options.kinds, "pause": options.pause}
    if options.nodes == "postgres":
        return postgres_nodes(folder, options.seed, synchronous=not options.asynchronous, **given)
    if options.nodes == "redis":
        given |= {"coherence": options.coherence, "all_reads": options.all_reads}
        given["patience"] = options.patience
        return redis_nodes(folder, options.seed, **given)
    given["stopped"] = options.stopped
    return mongo_nodes(folder, options.seed, election=options.election, ask=options.ask, **given)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", choices=["mongo", "postgres", "redis"])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=())
    parser.add_argument("--ask", default="")
    parser.add_argument("--only", nargs="+", default=(), help="kinds of work")
    parser.add_argument("--stopped", type=float, default=15.0)
    parser.add_argument("--election", type=float, default=10.0)
    parser.add_argument("--asynchronous", action="store_true")
    parser.add_argument("--coherence", choices=["strict", "bounded"], default="strict")
    parser.add_argument("--all-reads", action="store_true")
    parser.add_argument("--patience", type=int, default=1_000)
    parser.add_argument("--planted", nargs="*", default=())
    parser.add_argument("--pause", type=float, default=2.0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    plan = Plan(
        options.seed,
        processes=options.processes,
        clients=options.clients,
        seconds=options.seconds,
        most_faults=options.faults,
        kinds=tuple(options.only) or (CACHED if options.nodes == "redis" else WORK),
        pause=0,
        patience=60,
        planted=tuple(options.planted),
        reads=0.8 if options.nodes == "redis" else 0.2,
    )
    with tempfile.TemporaryDirectory() as folder:
        nodes = _nodes(Path(folder), options)
        with nodes as here:
            outcome = round_of(here, plan, "R")
    if outcome.violations:
        print(shown(outcome.violations, 1))
        print("faults:", [(each.kind, round(each.at, 3)) for each in here.faults.struck])
        if here.promised is not None:
            print("reads may be old:", here.promised.spans(outcome.history))
    figures = {
        "seed": options.seed,
        "answers": dict(outcome.answers),
        "reads": len(outcome.history.reads),
        "of a cache": None if here.promised is None else told_of(here.promised, outcome),
        "faults": dict(outcome.faults),
        "stood still": stood_still(here, outcome),
        "violations": dict(Counter(outcome.kinds)),
    }
    print(json.dumps(figures))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
