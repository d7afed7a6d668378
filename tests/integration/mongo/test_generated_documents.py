"""Whatever a declared document holds comes back, and a condition finds the same in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, ClassVar

import pytest
from beanie import DecimalAnnotation, PydanticObjectId
from beanie.operators import And, Eq, Exists, In, Not, NotIn, Or
from bson import ObjectId
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jts_storage.errors import InvalidData
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.memory.documents import InMemoryDocuments
from jts_storage.memory.tables import Autocommit, MemoryDatabase
from jts_storage.models import DocumentRepository, Mapper
from jts_storage.mongo import MongoDBManager, decimal, id_text
from jts_storage.mongo.declared import DeclaredDocuments
from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.held import as_held
from jts_storage.mongo.model import DocumentModel, with_declared
from jts_storage.mongo.stored import Stored
from jts_storage.mongo.values import plain_value, whole

# Unshrunk: thousands of attempts, each with documents of its own, would take minutes.
BOUNDED = settings(max_examples=40, phases=[Phase.generate], suppress_health_check=[*HealthCheck])


@dataclass(frozen=True)
class Leg:
    symbol: str
    price: Decimal
    at: datetime
    marks: tuple[Decimal, ...] = ()


@dataclass(frozen=True)
class Paper:
    title: str
    number: int | None = None
    ratio: float | None = None
    amount: Decimal | None = None
    at: datetime | None = None
    flag: bool | None = None
    tags: tuple[str, ...] = ()
    grid: tuple[tuple[Decimal, ...], ...] = ()
    legs: tuple[Leg, ...] = ()
    strategy_id: str | None = None
    id: str | None = None
    version: int = field(default=1)


class LegFields(Stored):
    symbol: str
    price: DecimalAnnotation
    at: datetime
    marks: list[DecimalAnnotation]


class PaperDocument(VersionedDocument):
    collection: ClassVar[str] = "papers"

    title: str
    number: int | None = None
    ratio: float | None = None
    amount: DecimalAnnotation | None = None
    at: datetime | None = None
    flag: bool | None = None
    tags: list[str]
    grid: list[list[DecimalAnnotation]]
    legs: list[LegFields]
    strategy_id: PydanticObjectId | None = None


def to_document(paper: Paper) -> PaperDocument:
    values = {each.name: getattr(paper, each.name) for each in fields(Paper)}
    legs = [
        LegFields.of(**{each.name: as_held(getattr(leg, each.name)) for each in fields(Leg)})
        for leg in paper.legs
    ]
    return PaperDocument.holding(**{**values, "legs": legs})


def from_document(document: PaperDocument) -> Paper:
    return Paper(
        title=document.title,
        number=plain_value(document.number),
        ratio=document.ratio,
        amount=decimal(document.amount),
        at=document.at,
        flag=document.flag,
        tags=tuple(document.tags),
        grid=tuple(tuple(map(decimal, row)) for row in document.grid),
        legs=tuple(
            Leg(leg.symbol, decimal(leg.price), leg.at, tuple(map(decimal, leg.marks)))
            for leg in document.legs
        ),
        strategy_id=id_text(document.strategy_id),
        id=str(document.id),
        version=whole(document.version, 1),
    )


papers = DocumentModel(
    Paper, PaperDocument, Mapper(to_document, from_document), examples=[Paper("a")]
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
DECIMALS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=34).map(tuple),
    st.integers(-40, 40),
)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
NUMBERS = st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
LEGS = st.builds(Leg, TEXTS, DECIMALS, MOMENTS, st.lists(DECIMALS, max_size=2).map(tuple))
PAPERS = st.builds(
    Paper,
    title=TEXTS,
    number=st.none() | NUMBERS,
    ratio=st.none() | FLOATS,
    amount=st.none() | DECIMALS,
    at=st.none() | MOMENTS,
    flag=st.none() | st.booleans(),
    tags=st.lists(TEXTS, max_size=2).map(tuple),
    grid=st.lists(st.lists(DECIMALS, max_size=2).map(tuple), max_size=2).map(tuple),
    legs=st.lists(LEGS, max_size=2).map(tuple),
)
FIELDS: Mapping[str, Callable[[Any], Any]] = {
    **{
        name: attrgetter(name)
        for name in ("title", "number", "ratio", "amount", "at", "flag", "tags", "version")
    },
    "legs.symbol": lambda paper: paper.legs.symbol,
    "legs.price": lambda paper: paper.legs.price,
    "legs.marks": lambda paper: paper.legs.marks,
}
ANYTHING = st.none() | st.booleans() | NUMBERS | FLOATS | DECIMALS | MOMENTS | TEXTS


@st.composite
def given_papers(draw: st.DrawFn) -> tuple[list[Paper], Callable[[Any], Any]]:
    """Papers, and a condition on values that they have, or others."""
    kept = draw(st.lists(PAPERS, min_size=1, max_size=6))
    there = [value for paper in kept for value in _values_of(paper)]
    values = st.sampled_from(there) | ANYTHING
    fields_ = st.sampled_from(list(FIELDS.values()))

    def comparing(operator: str) -> st.SearchStrategy[Any]:
        return st.tuples(fields_, values).map(
            lambda two: lambda paper: getattr(two[0](paper), operator)(two[1])
        )

    several = st.tuples(fields_, st.lists(values, max_size=3))
    one = st.one_of(
        *map(comparing, ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")),
        several.map(lambda two: lambda paper: In(two[0](paper), two[1])),
        several.map(lambda two: lambda paper: NotIn(two[0](paper), two[1])),
        st.tuples(fields_, st.booleans()).map(
            lambda two: lambda paper: Exists(two[0](paper), two[1])
        ),
        st.tuples(fields_, values).map(
            lambda two: lambda paper: Not({two[0](paper): {"$gt": two[1]}})
        ),
    )
    where = st.recursive(
        one,
        lambda inner: (
            st.tuples(inner, inner).map(lambda two: lambda paper: And(two[0](paper), two[1](paper)))
            | st.tuples(inner, inner).map(
                lambda two: lambda paper: Or(two[0](paper), two[1](paper))
            )
        ),
        max_leaves=3,
    )
    return kept, draw(where)


def _values_of(paper: Paper) -> list[Any]:
    plain = [paper.title, paper.number, paper.ratio, paper.amount, paper.at, paper.flag]
    legs = [value for leg in paper.legs for value in (leg.symbol, leg.price, *leg.marks)]
    return [*plain, *paper.tags, *legs]


Check = Callable[[Sequence[Paper], Callable[[Any], Any]], None]


@pytest.fixture(scope="module")
def check(mongod: LocalMongod) -> Iterator[Check]:
    """Tries papers in one database, whose connections belong to one loop."""
    with asyncio.Runner() as runner:
        manager = MongoDBManager(uri=mongod.uri, database="papers")
        manager.models = with_declared([papers])
        yield lambda kept, where: runner.run(tried(manager, kept, where))
        runner.run(left(manager))


async def left(manager: MongoDBManager) -> None:
    await manager.client.drop_database("papers")
    await manager.close()


async def tried(
    manager: MongoDBManager, kept: Sequence[Paper], where: Callable[[Any], Any]
) -> None:
    twin = InMemoryDocuments(Autocommit(MemoryDatabase()), papers, with_declared([papers]))
    stored = DeclaredDocuments(manager, papers)
    await manager.get_collection("papers").delete_many({})
    found = []
    for source in (stored, twin):
        repository: DocumentRepository[Paper] = DocumentRepository(papers, source)
        saved = [await repository.save(paper) for paper in kept]
        assert await repository.list(strict=True) == sorted(saved, key=lambda each: str(each.id))
        assert list(map(shown, saved)) == list(map(shown, kept))
        met = await repository.list(where=where, strict=True)
        found.append(sorted(shown(each) for each in met))
    assert found[0] == found[1], papers.condition(where)


def shown(paper: Paper) -> str:
    return repr([getattr(paper, each.name) for each in fields(Paper) if each.name != "id"])


@BOUNDED
@given(given_papers())
def test_documents_come_back_and_are_found_in_memory_alike(
    check: Check, drawn: tuple[list[Paper], Callable[[Any], Any]]
) -> None:
    check(*drawn)


@pytest.mark.slow
@settings(BOUNDED, max_examples=500)
@given(given_papers())
def test_many_documents_come_back_and_are_found_in_memory_alike(
    check: Check, drawn: tuple[list[Paper], Callable[[Any], Any]]
) -> None:
    check(*drawn)


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("at", NOON + timedelta(microseconds=1), "milliseconds"),
        ("at", NOON.replace(tzinfo=None), "time zone"),
        ("at", NOON.date(), "day"),
        ("number", 2**63, "64 bits"),
        ("amount", Decimal("1." + "1" * 34), "34"),
        ("grid", ((Decimal("1." + "1" * 34),),), "34"),
    ],
)
def test_what_a_document_would_change_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=f"{name}.*{message}"):
        to_document(Paper("a", **{name: value}))


UNKNOWN: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "exists None": (
        lambda paper: Exists(paper.at, None),  # type: ignore[arg-type]
        "neither True nor False",
    ),
    "exists 1": (lambda paper: {paper.at: {"$exists": 1}}, "neither True nor False"),
    "65 bits": (lambda paper: paper.number == 2**64, "64 bits"),
    "NaN": (lambda paper: paper.ratio > float("nan"), "NaN"),
    "NaN among others": (lambda paper: In(paper.ratio, [1.0, float("nan")]), "NaN"),
    "a Decimal that is NaN": (lambda paper: paper.amount == Decimal("NaN"), "NaN"),
    "35 digits": (lambda paper: paper.amount == Decimal("1" * 35), "34"),
    "a day": (lambda paper: paper.at > NOON.date(), "day"),
    "microseconds": (lambda paper: paper.at > NOON + timedelta(microseconds=1), "milliseconds"),
    "no zone": (lambda paper: paper.at > NOON.replace(tzinfo=None), "time zone"),
    "lists in order": (lambda paper: paper.tags > ["a"], "in no order"),
    "what BSON has not": (lambda paper: paper.title == 1j, "complex"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_conditions_that_stores_would_answer_otherwise_are_refused(name: str) -> None:
    where, message = UNKNOWN[name]
    with pytest.raises(InvalidData, match=message):
        papers.condition(where)


PLAIN: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "exists": (lambda paper: Exists(paper.at, True), "a b"),
    "is None": (lambda paper: paper.at == None, "a"),  # noqa: E711
    "at most None": (lambda paper: paper.at <= None, "a"),
    "at least None": (lambda paper: paper.at >= None, "a"),
    "below None": (lambda paper: paper.at < None, ""),
    "a version that is a flag": (lambda paper: paper.version == True, ""),  # noqa: E712
    "a flag": (lambda paper: paper.flag == True, "b"),  # noqa: E712
    "a flag that is a number": (lambda paper: paper.flag == 1, ""),
    "a number of another type": (lambda paper: paper.number == Decimal("1.0"), "b"),
    "a list": (lambda paper: Eq(paper.tags, ["x", "y"]), "b"),
    "an item": (lambda paper: paper.tags == "y", "b"),
    "an item above": (lambda paper: paper.tags > "x", "b"),
    "a leg": (lambda paper: paper.legs.symbol == "A", "b"),
    "no leg": (lambda paper: paper.legs.symbol != "A", "a"),
    "a price of a leg": (lambda paper: paper.legs.price < 2, "b"),
}


def test_kinds_of_values_are_told_apart_everywhere(check: Check) -> None:
    leg = Leg("A", Decimal("1.5"), NOON)
    kept = [Paper("a"), Paper("b", 1, at=NOON, flag=True, tags=("x", "y"), legs=(leg,))]
    twin = InMemoryDocuments(Autocommit(MemoryDatabase()), papers, with_declared([papers]))

    async def found() -> dict[str, str]:
        repository: DocumentRepository[Paper] = DocumentRepository(papers, twin)
        await repository.save_many(kept)
        return {
            name: " ".join(sorted(each.title for each in await repository.list(where=where)))
            for name, (where, _) in PLAIN.items()
        }

    assert asyncio.run(found()) == {name: expected for name, (_, expected) in PLAIN.items()}
    for where, _ in PLAIN.values():
        check(kept, where)


def test_an_id_of_a_condition_is_found_in_both_of_its_forms() -> None:
    identity = str(ObjectId())
    condition = papers.condition(lambda paper: paper.strategy_id == identity)
    assert condition == {"strategyId": ObjectId(identity)}
