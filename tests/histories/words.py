"""Transactions and cycles in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.histories.graph import Begin, Commit, Edge, Moment, Node, Seen
from tests.histories.history import END, Transaction, Write

_MOST = 12


def in_words(transaction: Transaction) -> str:
    end = "never answered" if transaction.ended == END else f"at {transaction.ended:.3f}"
    parts = [
        f"{transaction.id} by {transaction.client}, begun at {transaction.began:.3f}, "
        f"answered {transaction.answer} {end}",
        *([f"wrote {_several(map(_write, transaction.writes))}"] if transaction.writes else []),
        *([f"read {_several(_reads(transaction))}"] if transaction.reads else []),
        *(
            [f"events {_several(f'{key} {n}' for key, n in transaction.events)}"]
            if transaction.events
            else []
        ),
        *([f"error: {transaction.error[:300]}"] if transaction.error else []),
    ]
    return "; ".join(parts)


def cycle_in_words(cycle: Sequence[Edge]) -> tuple[str, list[int]]:
    """Each step on a line, those through moments as one, and the transactions on it."""
    steps = _without_moments(cycle)
    involved = [e.before.tx for e in steps if isinstance(e.before, Begin | Commit)]
    lines = [f"{_node(edge.before)} before {_node(edge.after)}: {edge.why}" for edge in steps]
    return "\n    ".join(["no order of commits explains this:", *lines]), involved


def _without_moments(cycle: Sequence[Edge]) -> list[Edge]:
    first = next(n for n, edge in enumerate(cycle) if not isinstance(edge.before, Moment))
    steps: list[Edge] = []
    for edge in [*cycle[first:], *cycle[:first]]:
        if isinstance(edge.before, Moment):
            had = "was acknowledged" if edge.before.kind == "acknowledged" else "had ended"
            steps[-1] = Edge(steps[-1].before, edge.after, f"the first {had} before that began")
        else:
            steps.append(edge)
    return [step for step in steps if step.is_step]


def _node(node: Node) -> str:
    if isinstance(node, Begin):
        return f"the snapshot of {node.tx}"
    return node.what if isinstance(node, Seen) else str(getattr(node, "tx", node))


def _write(write: Write) -> str:
    how = {"append": "to", "put": "to", "remove": "removal of", "erase": "erasing"}[write.how]
    refers = f" referring to {', '.join(write.refers)}" if write.refers else ""
    replaced = f" (replacing {write.replaced})" if write.how in ("append", "remove") else ""
    return f"{how} {write.object}{replaced}{refers}"


def _reads(transaction: Transaction) -> list[str]:
    return [
        f"{name} of {value or 'nobody'}"
        for read in transaction.reads
        for name, value in read.values.items()
    ]


def _several(parts: Iterable[str]) -> str:
    listed = list(parts)
    more = f" and {len(listed) - _MOST} more" if len(listed) > _MOST else ""
    return ", ".join(listed[:_MOST]) + more
