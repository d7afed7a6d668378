"""A graph of what comes before what, and the shortest cycle in it: what no order can explain.

A transaction is two points of it. At its `Begin` it sees the documents as they are from then on;
at its `Commit` all of its effects take their place in the order. So it may miss what commits
between its two points, as snapshot isolation allows, and such misses close no cycle by themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Begin(NamedTuple):
    tx: int
    point: str = "begin"


class Commit(NamedTuple):
    tx: int
    point: str = "commit"


class Moment(NamedTuple):
    """A point in time between transactions: a step to it adds nothing to the length of a cycle."""

    at: float


Node: TypeAlias = Begin | Commit | Moment


@dataclass(frozen=True, slots=True)
class Edge:
    """`before` comes before `after`, and why."""

    before: Node
    after: Node
    why: str

    @property
    def is_step(self) -> bool:
        """Whether it leads to another transaction, and not to a moment or within one."""
        if isinstance(self.after, Moment):
            return False
        return isinstance(self.before, Moment) or self.before.tx != self.after.tx


class Graph:
    def __init__(self) -> None:
        self._edges: dict[Node, dict[Node, Edge]] = {}

    def add(self, before: Node, after: Node, why: str) -> None:
        if before != after:
            self._edges.setdefault(before, {}).setdefault(after, Edge(before, after, why))

    def cycles(self) -> list[list[Edge]]:
        """The shortest cycle of each part of the graph that has one, shortest first."""
        return sorted(map(self._shortest, self._parts()), key=length)

    def _parts(self) -> Iterator[set[Node]]:
        """Strongly connected components of several nodes, by Tarjan, without recursion."""
        index: dict[Node, int] = {}
        low: dict[Node, int] = {}
        stack: list[Node] = []
        held: set[Node] = set()

        def enter(node: Node) -> tuple[Node, Iterator[Node]]:
            index[node] = low[node] = len(index)
            stack.append(node)
            held.add(node)
            return node, iter(self._edges.get(node, ()))

        for root in self._edges:
            work = [enter(root)] if root not in index else []
            while work:
                node, following = work[-1]
                for after in following:
                    if after not in index:
                        work.append(enter(after))
                        break
                    if after in held:
                        low[node] = min(low[node], index[after])
                else:
                    work.pop()
                    if work:
                        parent = work[-1][0]
                        low[parent] = min(low[parent], low[node])
                    if low[node] == index[node]:
                        part = _popped(stack, node)
                        held -= part
                        if len(part) > 1:
                            yield part

    def _shortest(self, part: set[Node], *, tries: int = 300) -> list[Edge]:
        starts = [node for node in part if not isinstance(node, Moment)]
        cycles = (self._cycle(start, part) for start in sorted(starts, key=repr)[:tries])
        return min(cycles, key=length)

    def _cycle(self, start: Node, part: set[Node]) -> list[Edge]:
        """The shortest way from a node of the part back to it, counting steps only."""
        came: dict[Node, Edge] = {}
        waiting: deque[tuple[Node, Edge | None]] = deque([(start, None)])
        while waiting:
            node, edge = waiting.popleft()
            if node in came:
                continue
            if edge is not None:
                came[node] = edge
                if node == start:
                    return _path(came, start)
            for after, step in self._edges.get(node, {}).items():
                if after in part and after not in came:
                    (waiting.append if step.is_step else waiting.appendleft)((after, step))
        raise AssertionError("a strongly connected part has a cycle through each of its nodes")


def length(cycle: list[Edge]) -> int:
    return sum(edge.is_step for edge in cycle)


def _popped(stack: list[Node], last: Node) -> set[Node]:
    part = set()
    while last not in part:
        part.add(stack.pop())
    return part


def _path(came: dict[Node, Edge], start: Node) -> list[Edge]:
    edge = came[start]
    path = [edge]
    while edge.before != start:
        edge = came[edge.before]
        path.append(edge)
    return path[::-1]
