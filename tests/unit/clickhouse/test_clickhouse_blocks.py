"""Columns survive the wire format unchanged, and what would not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clickhouse_driver import defines
from clickhouse_driver.block import BlockInfo
from clickhouse_driver.bufferedwriter import CompressedBufferedWriter
from clickhouse_driver.client import Client
from clickhouse_driver.connection import ServerInfo
from clickhouse_driver.context import Context
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.clickhouse import joining, memory
from jts_storage.clickhouse.blocks import (
    ColumnBlock,
    DictionaryColumn,
    MemoryReader,
    Typed,
    declared,
    read_block,
    sliced,
    write_block,
)
from jts_storage.clickhouse.joining import joined
from jts_storage.clickhouse.transport import as_table_types
from jts_storage.domain.columns import owner_of
from jts_storage.errors import InvalidData, SchemaDrift


def _context(revision: int = 0) -> Context:
    context = Context()
    context.server_info = ServerInfo("x", 26, 1, 1, revision, "UTC", "x", revision)
    context.settings = {}
    context.client_settings = Client("h").client_settings
    return context


class _Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def _through_the_wire(columns: dict[str, Any], revision: int = 0, *, raw: bool) -> ColumnBlock:
    sink = _Sink()
    out = CompressedBufferedWriter(sink, 4096)
    write_block(out, _context(revision), declared(columns))
    out.flush()
    reader = MemoryReader(memoryview(sink.data))
    block = read_block(reader, _context(revision), raw=raw)
    assert reader.exhausted
    return block


_int64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.lists(st.tuples(_int64, st.integers(0, 2**64 - 1), st.text(), st.none() | st.text())),
    st.sampled_from([0, 54442, defines.CLIENT_REVISION]),
    st.text(),
)
def test_what_goes_out_comes_back(
    rows: list[tuple[int, int, str, str | None]], revision: int, constant: str
) -> None:
    prices, volumes, names, notes = ([row[i] for row in rows] for i in range(4))
    columns = {
        "price": Typed("Decimal(18, 4)", np.array(prices, np.int64)),
        "volume": np.array(volumes, np.uint64),
        "name": names,
        "code": Typed("LowCardinality(String)", constant),
        "word": Typed("LowCardinality(String)", names),
        "note": Typed("Nullable(String)", notes),
        "version": Typed("UInt64", 7),
    }
    block = _through_the_wire(columns, revision, raw=True)
    assert block.num_rows == len(rows)
    arrays: dict[str, Any] = block.columns
    back = {
        name: (array.to_array() if isinstance(array, DictionaryColumn) else array).tolist()
        for name, array in arrays.items()
    }
    assert back == {
        "price": prices,
        "volume": volumes,
        "name": names,
        "code": [constant] * len(rows),
        "word": names,
        "note": notes,
        "version": [7] * len(rows),
    }


def test_numbers_are_views_until_they_are_joined() -> None:
    block = _through_the_wire({"a": np.arange(1000)}, raw=False)
    assert not block.arrays[0].flags.owndata
    for blocks in ([block], [block, block]):
        copied = joined(blocks)["a"]
        assert not np.shares_memory(copied, block.arrays[0])
        assert copied.tolist() == list(range(1000)) * len(blocks)
    assert joined([]) == {}


def test_spare_room_is_given_back_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy into memory that fits would need all of it twice."""
    blocks = [_through_the_wire({"a": np.arange(rows)}, raw=True) for rows in (200_000, 400_000)]
    made, room = memory.new_arrays, list[int]()

    def counted(dtypes: Any, rows: int) -> Any:
        room.append(rows)
        return made(dtypes, rows)

    monkeypatch.setattr(joining, "new_arrays", counted)
    found = joined(blocks)["a"]
    assert found.tolist() == [*range(200_000), *range(400_000)]
    assert room == [200_000, 1 << 20]
    owner = owner_of(found)
    assert memory.bytes_in_use(owner) == 600_000 * 8 < owner.nbytes


def test_room_for_many_rows_can_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many columns a million rows would not fit into memory that is used again."""
    sizes = (60_000, 30_000)
    blocks = [
        _through_the_wire({f"c{n}": np.arange(rows) for n in range(10)}, raw=True) for rows in sizes
    ]
    made, room = memory.new_arrays, list[int]()

    def counted(dtypes: Any, rows: int) -> Any:
        room.append(rows)
        return made(dtypes, rows)

    monkeypatch.setattr(joining, "new_arrays", counted)
    found = joined(blocks)
    for column in found.values():
        assert column.tolist() == [*range(60_000), *range(30_000)]
    assert len(room) == 2, "the columns moved once more, to where there is less room"
    owner = owner_of(found["c0"])
    assert memory.bytes_in_use(owner) == 90_000 * 8 * 10 < owner.nbytes


def test_dictionaries_of_many_blocks_become_one() -> None:
    texts = [["b", "a", "b"], [], ["c", "a"], [f"w{n}" for n in range(300)]]
    blocks = [
        _through_the_wire(
            {"w": Typed("LowCardinality(String)", each), "n": np.arange(len(each))}, raw=True
        )
        for each in texts
    ]
    for given_ in (blocks, blocks[1:], blocks[1:2]):
        found: Any = joined(given_, dictionaries=True)["w"]
        plain = joined(given_)["w"].tolist()
        assert len(found) == len(plain) == sum(block.num_rows for block in given_)
        assert isinstance(found, DictionaryColumn) == (len(plain) > 0)
        if plain:
            assert found.to_array().tolist() == plain
            assert found[1:4].to_array().tolist() == plain[1:4]
    assert joined(blocks)["w"].tolist() == [text for each in texts for text in each]


def test_many_different_words() -> None:
    words = [f"w{n % 70_000}" for n in range(100_000)]
    column = Typed("LowCardinality(String)", words)
    assert _through_the_wire({"w": column}, raw=False).arrays[0].tolist() == words


def test_a_block_that_ends_too_early_is_noticed() -> None:
    sink = _Sink()
    out = CompressedBufferedWriter(sink, 4096)
    write_block(out, _context(), declared({"a": np.arange(1000)}))
    out.flush()
    with pytest.raises(EOFError):
        read_block(MemoryReader(memoryview(sink.data[:-1])), _context())


@pytest.mark.parametrize(
    "columns",
    [
        {"a": Typed("Decimal(18, 4)", np.array([1.5]))},
        {"a": Typed("UInt64", np.array([-1]))},
        {"a": Typed("Int32", np.array([1]))},
        {"a": np.array([1.5], np.float16)},
        {"a": np.array(["x"])},
        {"a": np.array([1]), "b": 3},
        {"a": np.array([1]), "b": np.array([1, 2])},
        {"a": "only a constant"},
    ],
)
def test_what_would_change_on_the_way_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(InvalidData):
        declared(columns)


def test_slices_are_the_whole() -> None:
    columns = declared({"a": np.arange(10), "b": "x"})
    pieces = list(sliced(columns, 4))
    assert [len(piece["a"].values) for piece in pieces] == [4, 4, 2]
    assert np.concatenate([piece["a"].values for piece in pieces]).tolist() == list(range(10))
    assert list(sliced(columns, 10)) == [columns]


@pytest.mark.parametrize(
    ("given", "actual"),
    [
        ("Decimal(18, 4)", "Decimal(18, 4)"),
        ("Decimal64(4)", "Decimal(18, 4)"),
        ("DateTime64(3, 'UTC')", "DateTime64(3)"),
        ("String", "LowCardinality(String)"),
    ],
)
def test_the_tables_spelling_of_the_same_type_is_taken(given: str, actual: str) -> None:
    assert as_table_types("t", {"a": Typed(given, "")}, {"a": actual})["a"].type == actual


@pytest.mark.parametrize(
    ("given", "actual"),
    [
        ("Decimal(18, 4)", "Decimal(18, 6)"),
        ("Int64", "Decimal(18, 4)"),
        ("DateTime64(3)", "DateTime64(6)"),
        ("DateTime", "DateTime64(3)"),
        ("Int64", "UInt64"),
    ],
)
def test_another_type_in_the_table_is_a_drift_of_the_schema(given: str, actual: str) -> None:
    with pytest.raises(SchemaDrift, match="Column a of t"):
        as_table_types("t", {"a": Typed(given, "")}, {"a": actual})


def test_a_sparse_column_keeps_its_scale() -> None:
    """Servers send columns so that are mostly zeros: here 6 rows of which the third is 1.5."""
    out = CompressedBufferedWriter(sink := _Sink(), 4096)
    BlockInfo().write(out)
    for number in (1, 6):
        write_varint(number, out)
    for text in ("price", "Decimal(18, 4)"):
        write_binary_str(text, out)
    out.write(bytes([1, 1]))  # it has its own way of writing, and that is the sparse one
    write_varint(2, out)  # zeros before the value
    write_varint(3 | 1 << 62, out)  # and after it, to the end
    out.write(np.array([15_000], "<i8").tobytes())
    out.flush()
    context = _context(defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION)
    block = read_block(MemoryReader(memoryview(sink.data)), context, raw=True)
    assert joined([block])["price"].tolist() == [0, 0, 15_000, 0, 0, 0]


@pytest.mark.parametrize("type_name", ["LowCardinality(String)", "String"])
@pytest.mark.parametrize("words", [1, 3, 300, 70_000])
def test_names_given_as_a_dictionary_are_written_as_the_texts_they_are(
    type_name: str, words: int
) -> None:
    dictionary = tuple(f"word {number}" for number in range(words))
    given = Typed(type_name, DictionaryColumn.of(dictionary, np.tile(np.arange(words), 2)))
    block = _through_the_wire({"a": given}, raw=False)
    assert block.arrays[0].tolist() == [*dictionary, *dictionary]


def test_a_dictionary_is_cut_as_other_columns_are() -> None:
    given = {"a": Typed("LowCardinality(String)", DictionaryColumn(("x", "y"), np.arange(5) % 2))}
    pieces = [piece["a"].values.to_array().tolist() for piece in sliced(given, 2)]
    assert pieces == [["x", "y"], ["x", "y"], ["x"]]
