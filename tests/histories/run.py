"""Runs workers and faults over real engines, and judges what happened.

``python -m tests.histories.run --commits 20000 --faults 500 --seed 1`` runs rounds of a few
thousand commits each, over new objects, and prints figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from jts_storage import Storage, StorageSettings
from tests.histories.checker import KINDS, Violation, judge
from tests.histories.faults import KINDS as FAULTS
from tests.histories.faults import Nemesis, Strikes
from tests.histories.final import read_all
from tests.histories.history import History, from_lines
from tests.histories.process import Records, Spec
from tests.histories.scene import MODELS, Scene, prepared
from tests.histories.servers import Network, Servers
from tests.histories.workers import NUMBERS_A_START, Worker
from tests.histories.workload import ACTIONS

_LOOK_EVERY = 0.25
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard.

    :param seconds: of one round, unless `commits` come first.
    :param pause: between two faults, at most.
    :param patience: for how long the end waits for what is unfinished.
    :param reads: which part of what workers do is reads outside of units of work.
    """

    seed: str
    processes: int = 2
    clients: int = 2
    seconds: float = 10.0
    commits: int = 10**9
    faults: tuple[str, ...] = FAULTS
    most_faults: int = 10**9
    pause: float = 1.0
    longest: float = 1.5
    kinds: tuple[str, ...] = tuple(ACTIONS)
    lease: float | None = 3.0
    planted: tuple[str, ...] = ()
    patience: float = 30.0
    reads: float = 0.2


@dataclass(slots=True)
class Outcome:
    history: History
    violations: list[Violation]
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> Counter[str]:
        return Counter(t.answer for t in self.history.transactions.values())

    @property
    def kinds(self) -> Counter[str]:
        return Counter(found.kind for found in self.violations)


class Reachable(Protocol):
    """The servers of a run, and where it may write."""

    folder: Path

    @property
    def settings(self) -> StorageSettings:
        """The way for whoever prepares a run and looks at its end."""
        ...

    def network(self) -> Network:
        """A way for one worker."""
        ...


def run_round(
    servers: Reachable,
    plan: Plan,
    name: str,
    *,
    strikes: Strikes | None = None,
    promised: Callable[[History], History] = lambda history: history,
) -> Outcome:
    """One round over objects of its own, and what the checker says of it.

    :param strikes: does what goes wrong, in place of the plan's faults of workers.
    :param promised: leaves out of a history what the servers do not promise.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=servers.folder))
    scene = asyncio.run(_prepared(servers, name))
    workers = [_worker(servers, plan, scene, folder, n) for n in range(plan.processes)]
    choice = Random(f"{plan.seed} {name} faults")
    nemesis = strikes or Nemesis(workers, choice, kinds=plan.faults, longest_pause=plan.longest)
    try:
        for worker in workers:
            worker.start()
        _let_run(plan, folder, nemesis, choice)
        for worker in workers:
            worker.stop()
    finally:
        for worker in workers:
            worker.kill()
    path = folder / "final.jsonl"
    records = Records(str(path))
    final = asyncio.run(read_all(servers.settings, scene, records, patience=plan.patience))
    history = promised(from_lines(_lines(folder), final))
    return Outcome(history, judge(history), nemesis.done)


async def _prepared(servers: Reachable, name: str) -> Scene:
    async with Storage.open(servers.settings, models=MODELS) as storage:
        return await prepared(storage, name)


def _worker(servers: Reachable, plan: Plan, scene: Scene, folder: Path, number: int) -> Worker:
    network = servers.network()
    spec = Spec(
        name=f"p{number}",
        seed=plan.seed,
        # Each worker's starts take every `processes`-th block of numbers.
        first=(number - plan.processes) * NUMBERS_A_START + 1,
        scene=scene,
        urls=network.urls,
        records=str(folder / f"p{number}.jsonl"),
        kinds=plan.kinds,
        clients=plan.clients,
        lease=plan.lease,
        planted=plan.planted,
        reads=plan.reads,
    )
    return Worker(spec, network, plan.processes * NUMBERS_A_START)


def _let_run(plan: Plan, folder: Path, nemesis: Strikes, choice: Random) -> None:
    _wait_until(lambda: _commits(folder) > 0, time.monotonic() + _START_SECONDS)
    end = time.monotonic() + plan.seconds
    while time.monotonic() < end and _commits(folder) < plan.commits:
        if sum(nemesis.done.values()) < plan.most_faults and plan.faults:
            time.sleep(choice.uniform(0, plan.pause))
            nemesis.strike()
        else:
            time.sleep(_LOOK_EVERY)


def _wait_until(holds: Callable[[], bool], end: float) -> None:
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)


def _lines(folder: Path) -> list[str]:
    return [
        line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]


def _commits(folder: Path) -> int:
    return sum(path.read_bytes().count(b'"answer": "ok"') for path in folder.glob("*.jsonl"))


def shown(violations: Sequence[Violation], most: int = 3) -> str:
    """The first violations of each kind, with their smallest histories."""
    seen: Counter[str] = Counter()
    parts = []
    for found in violations:
        seen[found.kind] += 1
        if seen[found.kind] <= most:
            parts.append(str(found))
    return "\n".join([*parts, f"in all: {dict(seen)}"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", default=os.environ.get("HISTORIES_SEED") or str(time.time_ns()))
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--round", type=int, default=2_000, help="commits of one round")
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=600, help="the longest round")
    parser.add_argument("--only", nargs="+", default=list(ACTIONS), help="kinds of work")
    parser.add_argument("--kinds-of-faults", nargs="*", default=list(FAULTS))
    parser.add_argument("--planted", nargs="*", default=[])
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--show", type=int, default=2, help="violations of a kind and round")
    options = parser.parse_args(arguments)
    answers: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    kinds = Counter(dict.fromkeys(KINDS, 0))
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        Servers(Path(folder), postgres=options.postgres) as servers,
    ):
        number = 0
        while answers["ok"] < options.commits or sum(faults.values()) < options.faults:
            plan = Plan(
                options.seed,
                processes=options.processes,
                clients=options.clients,
                seconds=options.seconds,
                commits=options.round,
                faults=tuple(options.kinds_of_faults) if options.faults else (),
                pause=options.pause,
                kinds=tuple(options.only),
                planted=tuple(options.planted),
            )
            outcome = run_round(servers, plan, f"R{number}")
            number += 1
            answers += outcome.answers
            faults += outcome.faults
            kinds += outcome.kinds
            if outcome.violations:
                print(f"round {number - 1}, seed {options.seed}:")
                print(shown(outcome.violations, options.show), flush=True)
    figures = {
        "seed": options.seed,
        "rounds": number,
        "seconds": round(time.monotonic() - began, 1),
        "answers": dict(answers),
        "faults": dict(faults),
        "violations": {kind: kinds[kind] for kind in KINDS},
    }
    print(json.dumps(figures))
    return 1 if any(kinds.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
