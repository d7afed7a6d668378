"""The checker finds each kind of anomaly in histories written by hand, and accepts clean ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.histories.checker import judge
from tests.histories.history import (
    END,
    Answer,
    Delivery,
    Final,
    History,
    How,
    Read,
    Transaction,
    Write,
    from_lines,
    to_line,
)


def append(name: str, replaced: int = 0, *refers: str) -> Write:
    return Write(name, "append", replaced, refers)


def remove(name: str, replaced: int) -> Write:
    return Write(name, "remove", replaced)


def put(name: str) -> Write:
    return Write(name, "put")


def erase(name: str) -> Write:
    return Write(name, "erase")


def read(
    began: float, tx: int = 0, *, lengths: dict[str, int] | None = None, **values: int
) -> Read:
    """Names are written with ``_`` for ``:`` and ``__`` for ``/``."""
    named = {name.replace("__", "/").replace("_", ":"): value for name, value in values.items()}
    return Read("reader", began, began + 0.1, named, tx, lengths or {})


def unit(
    tx: int,
    began: float,
    ended: float,
    *writes: Write,
    answer: Answer = "ok",
    reads: Sequence[Read] = (),
    events: Sequence[tuple[str, int]] = (),
) -> Transaction:
    ended = END if answer == "unknown" else ended
    return Transaction(tx, "c", began, ended, answer, writes, tuple(reads), tuple(events))


def history(
    *transactions: Transaction,
    found: dict[str, int] | Iterable[tuple[str, int]] = (),
    lists: dict[str, tuple[int, ...]] | None = None,
    reads: Sequence[Read] = (),
    deliveries: Sequence[Delivery] = (),
    refers: dict[str, tuple[str, ...]] | None = None,
) -> History:
    stored = found.items() if isinstance(found, dict) else found
    final = Final(tuple(stored), lists or {}, refers or {})
    known = {transaction.id: transaction for transaction in transactions}
    return History(known, tuple(reads), tuple(deliveries), final)


def kinds(judged: History) -> list[str]:
    return [violation.kind for violation in judge(judged)]


def test_nothing_is_clean() -> None:
    assert judge(history()) == []


def test_a_commit_that_is_there_is_clean() -> None:
    one = unit(1, 0, 1, append("formula:L"), put("candle:A/1"), events=[("K", 0)])
    assert not judge(
        history(
            one,
            found={"formula:L": 1, "candle:A/1": 1},
            lists={"formula:L": (1,)},
            deliveries=[Delivery(2, "K", 1, 0)],
        )
    )


@pytest.mark.parametrize("write", [append("checkpoint:C"), put("candle:A/1"), put("symbol:S")])
def test_lost(write: Write) -> None:
    assert kinds(history(unit(1, 0, 1, write))) == ["lost"]


def test_lost_though_decided() -> None:
    assert kinds(history(unit(1, 0, 1, put("bar:A/1"), answer="decided"))) == ["lost"]


def test_an_unknown_commit_may_be_absent() -> None:
    one = unit(1, 0, 1, put("candle:A/1"), append("checkpoint:C"), answer="unknown")
    assert not judge(history(one))


@pytest.mark.parametrize("answer", ["ok", "unknown"])
def test_half(answer: Answer) -> None:
    one = unit(1, 0, 1, append("formula:L"), put("candle:A/1"), answer=answer)
    assert kinds(history(one, found={"formula:L": 1}, lists={"formula:L": (1,)})) == ["half"]


def test_half_of_what_was_seen_only_once() -> None:
    one = unit(1, 0, 1, put("candle:A/1"), answer="unknown")
    two = unit(2, 3, 4, reads=[read(3.5, 2, candle_A__1=1)])
    assert kinds(history(one, two)) == ["half"]


def test_doubled_rows() -> None:
    rows = [("symbol:S", 1), ("symbol:S", 1)]
    assert kinds(history(unit(1, 0, 1, put("symbol:S")), found=rows)) == ["doubled"]


def test_doubled_in_a_list() -> None:
    one = unit(1, 0, 1, append("checkpoint:C"))
    judged = history(one, found={"checkpoint:C": 1}, lists={"checkpoint:C": (1, 1)})
    assert kinds(judged) == ["doubled"]


@pytest.mark.parametrize("answer", ["conflict", "failed"])
def test_dirty_at_the_end(answer: Answer) -> None:
    one = unit(1, 0, 1, put("candle:A/1"), answer=answer)
    assert kinds(history(one, found={"candle:A/1": 1})) == ["dirty"]


def test_dirty_read() -> None:
    one = unit(1, 0, 1, answer="failed")
    judged = history(one, reads=[read(0.5, formula_L=1)])
    assert kinds(judged) == ["dirty"]


def test_a_value_of_nobody() -> None:
    assert kinds(history(found={"candle:A/1": 7})) == ["dirty"]


def test_lost_update() -> None:
    judged = history(
        unit(1, 0, 1, append("checkpoint:C")),
        unit(2, 2, 4, append("checkpoint:C", 1)),
        unit(3, 2, 5, append("checkpoint:C", 1)),
        found={"checkpoint:C": 3},
        lists={"checkpoint:C": (1, 3)},
    )
    (violation,) = judge(judged)
    assert violation.kind == "lost"
    assert "2 and 3 each replaced what 1 had left in checkpoint:C" in violation.text


def test_made_twice() -> None:
    judged = history(
        unit(1, 0, 3, append("aggregate:0")),
        unit(2, 0, 4, append("aggregate:0")),
        found={"aggregate:0": 2},
    )
    assert "lost" in kinds(judged)


def test_deleted_and_made_anew_is_clean() -> None:
    assert not judge(
        history(
            unit(1, 0, 1, append("aggregate:0")),
            unit(2, 2, 3, remove("aggregate:0", 1)),
            unit(3, 4, 5, append("aggregate:0")),
            found={"aggregate:0": 3},
        )
    )


@pytest.mark.parametrize(("answer", "found"), [("unknown", []), ("failed", ["lost"])])
def test_made_once_more_than_known_deletions_explain(answer: Answer, found: list[str]) -> None:
    judged = history(
        unit(1, 0, 1, append("aggregate:0")),
        unit(2, 2, 3, remove("aggregate:0", 1)),
        unit(3, 4, 5, append("aggregate:0")),
        unit(4, 6, 7, remove("aggregate:0", 3), answer=answer),
        unit(5, 8, 9, append("aggregate:0")),
        found={"aggregate:0": 5},
    )
    assert kinds(judged) == found


def test_overwritten_under_the_version_of_one_deleted() -> None:
    judged = history(
        unit(1, 0, 1, append("aggregate:0")),
        unit(2, 2, 3, remove("aggregate:0", 1)),
        unit(3, 4, 5, append("aggregate:0")),
        unit(4, 1, 6, append("aggregate:0", 1)),
        found={"aggregate:0": 4},
    )
    assert "lost" in kinds(judged)


def test_an_acknowledged_delete_undone() -> None:
    judged = history(
        unit(1, 0, 1, put("candle:A/1")),
        unit(2, 2, 3, erase("candle:A/1")),
        found={"candle:A/1": 1},
    )
    assert kinds(judged) == ["order"]


def test_an_older_write_wins() -> None:
    judged = history(
        unit(1, 0, 1, put("symbol:S")), unit(2, 2, 3, put("symbol:S")), found={"symbol:S": 1}
    )
    (violation,) = judge(judged)
    assert violation.kind == "order"
    assert violation.transactions == (1, 2) or violation.transactions == (2, 1)


def test_side_by_side_either_may_win() -> None:
    one, two = unit(1, 0, 3, put("symbol:S")), unit(2, 1, 4, put("symbol:S"))
    for winner in (1, 2):
        assert not judge(history(one, two, found={"symbol:S": winner}))


def test_stores_disagree_about_the_order() -> None:
    one = unit(1, 0, 3, put("symbol:S"), put("candle:A/1"))
    two = unit(2, 0, 3, put("symbol:S"), put("candle:A/1"))
    assert not judge(history(one, two, found={"symbol:S": 1, "candle:A/1": 1}))
    assert kinds(history(one, two, found={"symbol:S": 1, "candle:A/1": 2})) == ["order"]


def test_documents_and_candles_disagree_about_the_order() -> None:
    judged = history(
        unit(1, 0, 3, append("formula:L"), put("candle:A/1")),
        unit(2, 0, 4, append("formula:L", 1), put("candle:A/1")),
        found={"formula:L": 2, "candle:A/1": 1},
        lists={"formula:L": (1, 2)},
    )
    assert kinds(judged) == ["order"]


def test_a_stale_read() -> None:
    judged = history(
        unit(1, 0, 1, append("formula:L")),
        unit(2, 2, 3, append("formula:L", 1)),
        found={"formula:L": 2},
        lists={"formula:L": (1, 2)},
        reads=[read(4, formula_L=1)],
    )
    assert kinds(judged) == ["order"]


def test_another_store_may_show_a_decided_commit_later() -> None:
    """1 was killed once it was decided: its document is there before its checkpoint is."""
    judged = history(
        unit(1, 0, 1, append("formula:L"), append("checkpoint:C"), answer="unknown"),
        unit(2, 2, 3, append("formula:L", 1)),
        found={"formula:L": 2, "checkpoint:C": 1},
        lists={"formula:L": (1, 2), "checkpoint:C": (1,)},
        reads=[read(4, checkpoint_C=0)],
    )
    assert not judge(judged)


def test_a_stale_snapshot() -> None:
    judged = history(
        unit(1, 0, 1, append("formula:L")),
        unit(2, 2, 3, append("formula:L", 1)),
        unit(3, 4, 5, put("symbol:S"), reads=[read(4.5, 3, formula_L=1)]),
        found={"formula:L": 2, "symbol:S": 3},
        lists={"formula:L": (1, 2)},
    )
    assert kinds(judged) == ["order"]


def test_write_skew_of_other_documents_is_allowed() -> None:
    """Snapshot isolation: each misses what the other writes."""
    judged = history(
        unit(1, 0, 1, append("formula:L"), append("formula:M")),
        unit(2, 2, 4, append("formula:L", 1), reads=[read(2.5, 2, formula_L=1, formula_M=1)]),
        unit(3, 2, 4, append("formula:M", 1), reads=[read(2.5, 3, formula_L=1, formula_M=1)]),
        found={"formula:L": 2, "formula:M": 3},
        lists={"formula:L": (1, 2), "formula:M": (1, 3)},
    )
    assert not judge(judged)


def test_a_snapshot_that_is_torn() -> None:
    """It sees one effect of a transaction and misses another: no snapshot does."""
    judged = history(
        unit(1, 0, 1, append("formula:L"), append("formula:M")),
        unit(2, 2, 5, append("formula:L", 1), append("formula:M", 1)),
        unit(3, 2, 5, put("symbol:S"), reads=[read(3, 3, formula_L=2, formula_M=1)]),
        found={"formula:L": 2, "formula:M": 2, "symbol:S": 3},
        lists={"formula:L": (1, 2), "formula:M": (1, 2)},
    )
    assert kinds(judged) == ["order"]


def test_an_insert_seen_in_part() -> None:
    judged = history(
        unit(1, 0, 9, put("candle:A/1"), put("candle:A/2")),
        found={"candle:A/1": 1, "candle:A/2": 1},
        reads=[read(5, candle_A__1=1, candle_A__2=0)],
    )
    assert kinds(judged) == ["lost"]


def test_an_insert_seen_in_part_beside_older_rows() -> None:
    judged = history(
        unit(1, 0, 1, put("candle:A/1"), put("candle:A/2")),
        unit(2, 2, 9, put("candle:A/1"), put("candle:A/2")),
        found={"candle:A/1": 2, "candle:A/2": 2},
        reads=[read(5, candle_A__1=2, candle_A__2=1)],
    )
    assert kinds(judged) == ["order"]


def test_write_skew_on_a_reference() -> None:
    judged = history(
        unit(1, 0, 1, append("formula:F"), append("strategy:X")),
        unit(2, 2, 4, append("strategy:X", 1, "F")),
        unit(3, 2, 4, remove("formula:F", 1)),
        found={"strategy:X": 2},
        lists={"strategy:X": (1, 2)},
        refers={"strategy:X": ("F",)},
    )
    assert kinds(judged) == ["dangling"]


def test_a_reference_that_dangled_for_a_while() -> None:
    judged = history(
        unit(1, 0, 1, append("formula:F"), append("strategy:X")),
        unit(2, 2, 4, append("strategy:X", 1, "F")),
        unit(3, 2, 4, remove("formula:F", 1)),
        unit(4, 5, 6, append("strategy:X", 2)),
        found={"strategy:X": 4},
        lists={"strategy:X": (1, 2, 4)},
    )
    assert kinds(judged) == ["dangling"]


def test_a_formula_deleted_when_nothing_refers_to_it_any_more_is_clean() -> None:
    assert not judge(
        history(
            unit(1, 0, 1, append("formula:F"), append("strategy:X", 0, "F")),
            unit(2, 2, 3, append("strategy:X", 1)),
            unit(3, 4, 5, remove("formula:F", 1)),
            found={"strategy:X": 2},
            lists={"strategy:X": (1, 2)},
        )
    )


def delivered(*events: tuple[int, int]) -> list[Delivery]:
    return [Delivery(10.0 + at, "K", tx, number) for at, (tx, number) in enumerate(events)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(1, 0), (1, 1), (2, 0)], []),
        ([(1, 0), (1, 0), (1, 1), (2, 0), (2, 0)], []),
        ([(1, 0), (1, 1)], ["event"]),
        ([(2, 0), (1, 0), (1, 1)], ["event"]),
        ([(1, 1), (1, 0), (2, 0)], ["event"]),
    ],
)
def test_events(events: list[tuple[int, int]], expected: list[str]) -> None:
    judged = history(
        unit(1, 0, 1, events=[("K", 0), ("K", 1)]),
        unit(2, 2, 3, events=[("K", 0)]),
        deliveries=delivered(*events),
    )
    assert kinds(judged) == expected


def test_an_event_of_what_is_not_stored() -> None:
    one = unit(1, 0, 1, answer="failed", events=[("K", 0)])
    assert kinds(history(one, deliveries=delivered((1, 0)))) == ["dirty"]


def test_a_read_of_what_the_list_does_not_hold() -> None:
    judged = history(
        unit(1, 0, 1, append("checkpoint:C")),
        unit(2, 0, 3, append("checkpoint:C", 1)),
        found={"checkpoint:C": 2},
        lists={"checkpoint:C": (1, 2)},
        reads=[read(1.5, checkpoint_C=1, lengths={"checkpoint:C": 2})],
    )
    assert "order" in kinds(judged)


def test_a_violation_names_what_shows_it_and_no_more() -> None:
    others = [unit(n, n, n + 0.5, put(f"symbol:T{n}")) for n in range(10, 90)]
    judged = history(
        unit(1, 0, 1, put("symbol:S")),
        unit(2, 2, 3, put("symbol:S")),
        *others,
        found={"symbol:S": 1} | {f"symbol:T{n}": n for n in range(10, 90)},
    )
    (violation,) = judge(judged)
    assert sorted(violation.transactions) == [1, 2]
    assert "the first was acknowledged" in violation.text


def test_lines_of_a_killed_process() -> None:
    reads = [read(2, 2, symbol_S=1)]
    lines = [
        to_line("begin", tx=1, client="c", at=1.0),
        to_line("begin", tx=2, client="c", at=2.0),
        to_line("commit", tx=2, writes=[put("symbol:S")], reads=reads, events=[]),
        '{"is": "en',
    ]
    found = from_lines(lines, Final())
    assert found.transactions[1].answer == "failed"  # it had not called commit
    assert found.transactions[2].answer == "unknown"
    assert found.transactions[2].writes == (put("symbol:S"),)
    assert found.transactions[2].reads[0].values == {"symbol:S": 1}


LISTS = ("formula:L", "checkpoint:C", "aggregate:0")
ROWS = ("candle:A/0", "candle:A/1", "symbol:S", "bar:A/0")
steps = st.lists(
    st.lists(
        st.tuples(st.sampled_from((*LISTS, *ROWS)), st.sampled_from(("write", "erase", "read"))),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=12,
)


def serial(units: list[list[tuple[str, str]]]) -> History:
    """What is recorded when units of work run one after the other on stores without faults."""
    lists: dict[str, list[int]] = {}
    rows: dict[str, int] = {}
    transactions, reads, deliveries = [], [], []
    for tx, changes in enumerate(units, start=1):
        writes: dict[str, Write] = {}
        seen = []
        for name, how in changes:
            values = lists.setdefault(name, []) if name in LISTS else []
            before = values[-1] if values else rows.get(name, 0)
            if how == "read" and name not in writes:
                seen.append(Read("c", tx + 0.1, tx + 0.2, {name: before}, tx))
                reads.append(Read("r", tx - 0.2, tx - 0.1, {name: before}))
            elif how != "read" and name in LISTS and name not in writes:
                writes[name] = append(name, before)
                values.append(tx)
            elif how != "read" and name in ROWS:
                is_put: How = "put" if how == "write" or name == "symbol:S" else "erase"
                writes[name] = Write(name, is_put)
                rows[name] = tx if is_put == "put" else 0
        own = f"symbol:T{tx}"
        rows[own] = tx
        all_writes = (*writes.values(), put(own))
        transactions.append(unit(tx, tx, tx + 0.5, *all_writes, reads=seen, events=[("K", 0)]))
        deliveries.append(Delivery(tx + 0.6, "K", tx, 0))
    found = {name: values[-1] for name, values in lists.items() if values}
    found |= {name: value for name, value in rows.items() if value}
    return history(
        *transactions,
        found=found,
        lists={n: tuple(v) for n, v in lists.items() if v and not n.startswith("aggregate")},
        reads=reads,
        deliveries=deliveries,
    )


@given(units=steps)
def test_a_serial_execution_is_clean(units: list[list[tuple[str, str]]]) -> None:
    assert not judge(serial(units))


@given(units=steps, seed=st.integers(0, 10**6))
def test_one_wrong_value_is_found(units: list[list[tuple[str, str]]], seed: int) -> None:
    clean = serial(units)
    choice = Random(seed)
    found = dict(clean.final.found)
    name = choice.choice(sorted(found))
    wrong = choice.choice([0, *(tx for tx in clean.transactions if tx < found[name])])
    written = {w.object for t in clean.transactions.values() for w in t.writes if w.how == "erase"}
    if wrong == 0 and name in written:
        return  # an eraser may explain it, if it came last
    found[name] = wrong
    final = replace(
        clean.final,
        found=tuple((name, value) for name, value in found.items() if value),
        lists={n: tuple(v) for n, v in clean.final.lists.items() if n != name},
    )
    assert judge(replace(clean, final=final))


@given(units=steps.filter(lambda units: len(units) > 1), seed=st.integers(0, 10**6))
def test_two_events_the_other_way_round_are_found(
    units: list[list[tuple[str, str]]], seed: int
) -> None:
    clean = serial(units)
    n = Random(seed).randrange(len(clean.deliveries) - 1)
    swapped = list(clean.deliveries)
    swapped[n], swapped[n + 1] = swapped[n + 1], swapped[n]
    assert "event" in kinds(replace(clean, deliveries=tuple(swapped)))


@pytest.mark.parametrize(
    ("erased", "at", "expected"),
    [(True, 2.5, []), (False, 2.5, ["lost"]), (True, 3.5, ["lost"])],
    ids=["under way", "without erasing", "when it has ended"],
)
def test_a_row_that_is_erased_and_put_at_once_may_be_away_in_between(
    erased: bool, at: float, expected: list[str]
) -> None:
    one = unit(1, 0, 1, put("candle:A/1"))
    two = unit(2, 2, 3, Write("candle:A/1", "put", erased=erased))
    seen = [read(at, candle_A__1=0)]
    assert kinds(history(one, two, found={"candle:A/1": 2}, reads=seen)) == expected
