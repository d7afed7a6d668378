"""Rounds of histories over nodes that die, with figures.

``python -m tests.ha.run mongo --seconds 300 --election 10`` kills and stops the primary of a
replica set of three; ``--ask '&readConcernLevel=local'`` adds to the URL that the workers use.
``python -m tests.ha.run postgres --asynchronous`` does so to a primary without a synchronous
standby.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
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
from tests.ha.servers import Stores
from tests.ha.standstill import Struck, standstills
from tests.histories.checker import STORED
from tests.histories.faults import Strikes
from tests.histories.history import History, store_of
from tests.histories.run import Outcome, Plan, run_round, shown

WORK = ("ledger", "candles", "checkpoint", "event")
"""Kinds of work whose units write a document, candles and a checkpoint."""


class Faults(Strikes, Protocol):
    """Strikes that are remembered with their times."""

    struck: list[Struck]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Stores to work on, and what befalls one of them.

    :param touches: the store that this is, as `history.STORES` has it: what writes nothing to it
        goes on meanwhile.
    """

    stores: Stores
    faults: Faults
    touches: str


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


def round_of(nodes: Nodes, plan: Plan, name: str) -> Outcome:
    return run_round(nodes.stores, plan, name, strikes=nodes.faults, promised=without_reads_in_vain)


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


def _nodes(folder: Path, options: argparse.Namespace) -> AbstractContextManager[Nodes]:
    given: dict[str, Any] = {"kinds": options.kinds, "pause": options.pause}
    if options.nodes == "postgres":
        return postgres_nodes(folder, options.seed, synchronous=not options.asynchronous, **given)
    given["stopped"] = options.stopped
    return mongo_nodes(folder, options.seed, election=options.election, ask=options.ask, **given)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", choices=["mongo", "postgres"])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=())
    parser.add_argument("--ask", default="")
    parser.add_argument("--only", nargs="+", default=list(WORK), help="kinds of work")
    parser.add_argument("--stopped", type=float, default=15.0)
    parser.add_argument("--election", type=float, default=10.0)
    parser.add_argument("--asynchronous", action="store_true")
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
        kinds=tuple(options.only),
        pause=0,
        patience=60,
    )
    with tempfile.TemporaryDirectory() as folder:
        nodes = _nodes(Path(folder), options)
        with nodes as here:
            outcome = round_of(here, plan, "R")
    if outcome.violations:
        print(shown(outcome.violations, 1))
    figures = {
        "seed": options.seed,
        "answers": dict(outcome.answers),
        "reads": len(outcome.history.reads),
        "faults": dict(outcome.faults),
        "stood still": stood_still(here, outcome),
        "violations": dict(Counter(outcome.kinds)),
    }
    print(json.dumps(figures))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
