"""The statements that put a table of the right definition in the place of another, rows and all.

They are text, since a person runs them. None drops anything: the old table keeps its rows under
another name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from jts_storage.clickhouse.create_texts import ColumnText, TableText, items
from jts_storage.clickhouse.sql import literal, quoted
from jts_storage.models.tables import DELETED

WRITTEN_ORDER: Final = "toUInt64(splitByChar('_', _part)[3]) DESC, _part_offset DESC"
"""The latest written first, among rows of a MergeTree."""

_VERSION = re.compile(r"ReplacingMergeTree\((?:'[^']*', '[^']*', )?(\w+)\)")
NOT_STORED: Final = frozenset({"ALIAS", "EPHEMERAL", "MATERIALIZED"})
_COPYING: Final = (
    # Rows of one key and one version stay in the order in which they were written.
    "max_threads = 1, max_insert_threads = 1, insert_null_as_default = 0,"
    " max_partitions_per_insert_block = 0, async_insert = 0, insert_deduplicate = 0"
)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One table that cannot be altered into what it should be.

    :param create: the CREATE TABLE of the model.
    :param renamed: what the table calls columns of the model.
    :param taken: names that are not free.
    """

    name: str
    create: str
    wanted: TableText
    found: TableText
    renamed: Mapping[str, str]
    taken: Collection[str]

    @property
    def kept(self) -> str:
        """The name under which the old table stays."""
        return free_name(f"{self.name}_before", self.taken)

    def warning(self) -> str:
        """Say what becomes of rows, before anything is done."""
        said = [
            f"No row is lost: what is there stays as {self.kept} until somebody drops it."
            " Stop what writes to it meanwhile."
        ]
        if self._version:
            said.append(
                f"Of several rows with one key ({', '.join(self._key)}) the one with the highest"
                " version counts, as every read of the kit has it."
            )
            if DELETED in self.wanted.columns:
                said.append("Of a key whose latest row says that it is deleted none is read.")
        if self._recast:
            said.append(
                f"It stops where a value does not fit ({', '.join(self._recast)}): correct such"
                " rows first."
            )
        return " ".join(said)

    def statements(self) -> Iterator[str]:
        """Look whether all fits; copy, compare, exchange."""
        if self.found.is_view:
            yield f"RENAME TABLE {self.name} TO {self.kept}"
            yield self.create
            yield self._insert(self.kept, self.name)
            yield self._comparison(self.kept, self.name)
            return
        new = free_name(f"{self.name}_rebuilt", self.taken)
        yield from self._refusals()
        yield with_name(self.create, new)
        yield self._insert(self.name, new)
        yield self._comparison(self.name, new)
        yield f"EXCHANGE TABLES {self.name} AND {new}"
        yield f"RENAME TABLE {new} TO {self.kept}"

    @property
    def _key(self) -> list[str]:
        return key_of(self.wanted)

    @property
    def _version(self) -> str | None:
        return version_of(self.wanted)

    def _source(self, column: str) -> str | None:
        """What holds the values of a column; None where nothing does."""
        name = self.renamed.get(column, column)
        return name if name in self.found.columns else None

    @property
    def _copied(self) -> dict[str, str]:
        """The columns that are copied, and what each is called now."""
        return {
            column: source
            for column, text in self.wanted.columns.items()
            if not NOT_STORED & text.parts.keys() and (source := self._source(column))
        }

    @property
    def _recast(self) -> dict[str, str]:
        """Columns whose values become of another type, and what each is called now."""
        return {
            column: source
            for column, source in self._copied.items()
            if not is_wider(self.wanted.columns[column], self.found.columns[source])
        }

    def _refusals(self) -> Iterator[str]:
        for column, source in self._recast.items():
            kind = self.wanted.columns[column].type
            unlike = unlike_after(source, self.found.columns[source].type, kind)
            message = f"{self.name} has values of {source} that do not fit {kind}"
            yield (
                f"SELECT throwIf(count() > 0, {literal(message.replace(chr(39), ''))})"
                f" FROM {self.name} WHERE {unlike}"
            )

    def _insert(self, source: str, target: str) -> str:
        into = ", ".join(map(quoted, self._copied))
        of = ", ".join(
            exact(name, self.found.columns[name].type, self.wanted.columns[column].type)
            for column, name in self._copied.items()
        )
        return f"INSERT INTO {target} ({into}) SELECT {of} FROM {source} SETTINGS {_COPYING}"

    def _comparison(self, source: str, target: str) -> str:
        """Fail where the new table does not have the very rows that count in the old one."""
        wanted = self.wanted.columns
        cast = ", ".join(
            f"CAST({exact(of, self.found.columns[of].type, wanted[column].type)} AS"
            f" {wanted[column].type})"
            for column, of in self._copied.items()
        )
        same = ", ".join(map(quoted, self._copied))
        final = " FINAL" if self._version else ""
        ours = f"SELECT cityHash64({same}) AS h FROM {target}{final}"
        theirs = f"SELECT cityHash64({cast}) AS h FROM {source}{self._latest()}"
        summed = "SELECT (count(), sum(h)) FROM ({})"
        message = f"{target} has not the rows of {source}"
        return (
            f"SELECT throwIf(({summed.format(theirs)}) != ({summed.format(ours)}),"
            f" {literal(message)})"
        )

    def _latest(self) -> str:
        """The end of a SELECT that leaves out what later rows replace."""
        if self._version is None:
            return ""
        order = []
        if version := self._source(self._version):
            order.append(f"{quoted(version)} DESC")
        if not self.found.is_view:
            order.append(WRITTEN_ORDER)
        by = ", ".join(quoted(self._source(column) or column) for column in self._key)
        return f" ORDER BY {', '.join(order) or by} LIMIT 1 BY {by}"


def key_of(table: TableText) -> list[str]:
    """The columns by which rows lie in order."""
    return list(items(table.clauses.get("ORDER BY", "").strip("()")))


def version_of(table: TableText) -> str | None:
    """The column by which the later of two rows is known."""
    found = _VERSION.search(table.clauses.get("ENGINE =", ""))
    return found[1] if found else None


def is_wider(wanted: ColumnText, found: ColumnText) -> bool:
    """Return whether every value of the one type is surely the same value in the other."""
    should, has = _bare(wanted.type), _bare(found.type)
    if should == has or (has.startswith("FixedString") and should == "String"):
        return True
    numbers = [re.fullmatch(r"(U?Int)(\d+)", each) for each in (should, has)]
    if numbers[0] and numbers[1]:
        return numbers[0][1] == numbers[1][1] and int(numbers[0][2]) >= int(numbers[1][2])
    decimals = [re.fullmatch(r"Decimal\((\d+), (\d+)\)", each) for each in (should, has)]
    if decimals[0] and decimals[1]:
        (wide, fine), (narrow, coarse) = (map(int, each.groups()) for each in decimals if each)
        return fine >= coarse and wide - fine >= narrow - coarse
    moments = [re.fullmatch(r"DateTime64\((\d)(?:, '[^']*')?\)", each) for each in (should, has)]
    return bool(moments[0] and moments[1] and moments[0][1] == moments[1][1])


def unlike_after(source: str, has: str, should: str) -> str:
    """Write the condition that a value is another one, or none, as the other type."""
    name = quoted(source)
    both = (f"CAST({exact(source, has, should)} AS {should})", name)
    if _is_float(has) and "Decimal" in should:
        both = (f"CAST({both[0]} AS {has})", name)
    if "String" in _bare(has) or "String" in should:
        both = (f"toString({both[0]})", f"toString({both[1]})")
    known = f"isNull({name}) OR " if "Nullable" in has and "Nullable" not in should else ""
    # Where it is null there is nothing to cast.
    return f"{known}ifNull({both[0].replace(name, _known(name, has))} != {both[1]}, 0)"


def exact(source: str, has: str, should: str) -> str:
    """The value of a column, which is to become another type.

    ClickHouse cuts a float off where it makes a Decimal of it: 1.15 would be 1.1499. Its text is
    the shortest decimal that is read as the same float.
    """
    if not (_is_float(has) and "Decimal" in should):
        return quoted(source)
    return f"toString({quoted(source)})"


def _is_float(kind: str) -> bool:
    return re.search(r"\bFloat(32|64)\b", kind) is not None


def _known(name: str, has: str) -> str:
    return f"assumeNotNull({name})" if "Nullable" in has else name


def _bare(kind: str) -> str:
    """A type without what says how its values are stored."""
    inner = re.fullmatch(r"LowCardinality\((.*)\)", kind)
    return inner[1] if inner else kind


def free_name(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def with_name(create: str, name: str) -> str:
    """The CREATE TABLE of another name."""
    return f"CREATE TABLE {name} {create[create.index('(') :]}"
