"""A graph of what comes before what, and the shortest cycle in it that must not be.

Snapshot isolation lets a transaction read an old state and commit beside the one that replaced it:
two such steps in a row ("missed", an anti-dependency) may close a cycle without any harm. A cycle
without two of them in a row is one that no order of commits explains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Node: TypeAlias = Hashable
State: TypeAlias = tuple[Node, bool]
"""A node, and whether the step that led to it was one of "missed"."""


class Moment(NamedTuple):
    """A point in time between transactions: a step to it adds nothing to the length of a cycle."""

    kind: str
    at: float


@dataclass(frozen=True, slots=True)
class Edge:
    """`before` comes before `after`, and why.

    :param missed: `before` did not see what `after` wrote.
    """

    before: Node
    after: Node
    why: str
    missed: bool = False


class Graph:
    def __init__(self) -> None:
        self._edges: dict[Node, dict[Node, Edge]] = {}

    def add(self, before: Node, after: Node, why: str, *, missed: bool = False) -> None:
        if before == after:
            return
        known = self._edges.setdefault(before, {})
        if after not in known or (known[after].missed and not missed):
            known[after] = Edge(before, after, why, missed)

    def forbidden(self) -> list[list[Edge]]:
        """The shortest cycle of each part of the graph that has a forbidden one, shortest first."""
        found = [self._shortest(part) for part in self._parts()]
        return sorted(found, key=length)

    def _next(self, state: State) -> Iterator[tuple[State, Edge]]:
        node, was_missed = state
        for after, edge in self._edges.get(node, {}).items():
            if not (edge.missed and was_missed):
                yield (after, edge.missed), edge

    def _parts(self) -> Iterator[set[State]]:
        """Strongly connected components of more than one state, by Tarjan, without recursion."""
        index: dict[State, int] = {}
        low: dict[State, int] = {}
        stack: list[State] = []
        held: set[State] = set()
        for root in [(node, missed) for node in self._edges for missed in (False, True)]:
            if root in index:
                continue
            work = [(root, self._next(root))]
            index[root] = low[root] = len(index)
            stack.append(root)
            held.add(root)
            while work:
                state, following = work[-1]
                for after, _ in following:
                    if after not in index:
                        index[after] = low[after] = len(index)
                        stack.append(after)
                        held.add(after)
                        work.append((after, self._next(after)))
                        break
                    if after in held:
                        low[state] = min(low[state], index[after])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[state])
                    if low[state] == index[state]:
                        part = set()
                        while state not in part:
                            part.add(stack.pop())
                        held -= part
                        if len(part) > 1:
                            yield part

    def _shortest(self, part: set[State], *, tries: int = 200) -> list[Edge]:
        starts = [state for state in part if not isinstance(state[0], Moment)]
        cycles = (self._cycle(start, part) for start in sorted(starts, key=repr)[:tries])
        return min(cycles, key=length)

    def _cycle(self, start: State, part: set[State]) -> list[Edge]:
        """The shortest way from a state of the part back to it; steps to a moment count nothing."""
        came: dict[State, tuple[State, Edge]] = {}
        waiting: deque[tuple[State, State | None, Edge | None]] = deque([(start, None, None)])
        while waiting:
            state, origin, edge = waiting.popleft()
            if state in came:
                continue
            if origin is not None and edge is not None:
                came[state] = (origin, edge)
                if state == start:
                    return _path(came, start)
            for after, step in self._next(state):
                if after in part and after not in came:
                    if isinstance(after[0], Moment):
                        waiting.appendleft((after, state, step))
                    else:
                        waiting.append((after, state, step))
        raise AssertionError("a strongly connected part has a cycle through each of its states")


def length(cycle: list[Edge]) -> int:
    return sum(not isinstance(edge.after, Moment) for edge in cycle)


def _path(came: dict[State, tuple[State, Edge]], start: State) -> list[Edge]:
    state, edge = came[start]
    path = [edge]
    while state != start:
        state, edge = came[state]
        path.append(edge)
    return path[::-1]
