"""Transactions and cycles in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from tests.histories.graph import Begin, Commit, Edge, Moment, Node
from tests.histories.history import END, Transaction, Write


def in_words(transaction: Transaction, about: str) -> str:
    """The transaction, with those of its effects and reads that a text is about."""
    end = "never answered" if transaction.ended == END else f"at {transaction.ended:.3f}"
    wrote = [write for write in transaction.writes if write.object in about]
    read = [
        f"{name} of {value or 'nobody'}"
        for read in transaction.reads
        for name, value in read.values.items()
        if name in about
    ]
    others = len({write.object for write in transaction.writes}) - len(wrote)
    parts = [
        f"{transaction.id} by {transaction.client}, begun at {transaction.began:.3f}, "
        f"answered {transaction.answer} {end}",
        *([f"wrote {', '.join(map(_write, wrote))}"] if wrote else []),
        *([f"{others} other writes"] if others else []),
        *([f"read {', '.join(dict.fromkeys(read))}"] if read else []),
        *(f"event {key} {n}" for key, n in transaction.events if f"event {key}" in about),
        *([f"error: {transaction.error[:300]}"] if transaction.error else []),
    ]
    return "; ".join(parts)


def cycle_in_words(cycle: Sequence[Edge]) -> tuple[str, list[int]]:
    """Each step on a line, those through moments as one, and the transactions on it."""
    steps = _without_moments(cycle)
    involved = [e.before.tx for e in steps if isinstance(e.before, Begin | Commit)]
    # Who had it refer to what another deleted is on no step, but shows it.
    involved += [int(e.why.split()[0]) for e in steps if " refer to " in e.why]
    lines = [f"{_node(edge.before)} before {_node(edge.after)}: {edge.why}" for edge in steps]
    return "\n    ".join(["no order of commits explains this:", *lines]), involved


def _without_moments(cycle: Sequence[Edge]) -> list[Edge]:
    first = next(n for n, edge in enumerate(cycle) if not isinstance(edge.before, Moment))
    steps: list[Edge] = []
    for edge in [*cycle[first:], *cycle[:first]]:
        if isinstance(edge.before, Moment):
            why = "the first was acknowledged, or seen by a read that ended, before that began"
            steps[-1] = Edge(steps[-1].before, edge.after, why)
        else:
            steps.append(edge)
    return [step for step in steps if step.is_step]


def _node(node: Node) -> str:
    if isinstance(node, Begin):
        return f"the snapshot of {node.tx}"
    return str(node.tx if isinstance(node, Commit) else node)


def _write(write: Write) -> str:
    how = {"append": "to", "put": "to", "remove": "removal of", "erase": "erasing"}[write.how]
    refers = f" referring to {', '.join(write.refers)}" if write.refers else ""
    replaced = f" (replacing {write.replaced})" if write.how in ("append", "remove") else ""
    return f"{how} {write.object}{replaced}{refers}"
