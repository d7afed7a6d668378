"""Filters, updates and pipelines, built from values that can never become operators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING

from jts_storage.domain import checks
from jts_storage.domain.enums import FormulaCategory, Metric
from jts_storage.errors import InvalidData
from jts_storage.mongo.documents import (
    BacktestDocument,
    FormulaDocument,
    StrategyDocument,
    VersionedDocument,
)
from jts_storage.mongo.letters import beginning
from jts_storage.mongo.stored import ID, Stored

Bson = dict[str, Any]

_WORD: Final = re.compile(r"\w+")
# Bounds on what a search may cost the server; `Formula.rank` looks at the whole query.
_LONGEST_WORD: Final = 64
_MOST_WORDS: Final = 8
_FIGURE: Final = "_figure"


def object_id(identity: object) -> ObjectId | None:
    """None for what names no document."""
    if isinstance(identity, str) and checks.is_document_id(identity):
        return ObjectId(identity)
    return None


def count(limit: object) -> int:
    """:raises InvalidData: `limit` is no number of documents."""
    return checks.whole(limit, "limit", below=2**31)


def in_category(model: type[FormulaDocument], category: FormulaCategory) -> Bson:
    return {model.path("category"): category.value}


def tagged(model: type[FormulaDocument], tags: Iterable[object]) -> Bson:
    """Formulas that carry every one of the tags."""
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidData("must be several strings", field="tags", value=tags)
    return {model.path("tags"): {"$all": [checks.text(tag, "tags") for tag in tags]}}


def uses_formula(model: type[StrategyDocument], formula_id: ObjectId) -> Bson:
    """Strategies that refer to the formula in any role."""
    return names_one(model.references(), formula_id)


def names_one(paths: Iterable[str], identity: ObjectId) -> Bson:
    """Documents that refer to the document at any of these paths."""
    return {"$or": [{path: refers_to(identity)} for path in paths]}


def refers_to(identity: ObjectId) -> Bson:
    """A reference to the document, also one that was stored as a string."""
    text = str(identity)
    return {"$in": [identity, *sorted({text, text.upper()})]}


def of_version(model: type[VersionedDocument], identity: ObjectId, version: int) -> Bson:
    """The document, if it is still of that version; one without any is of the first."""
    return {ID: identity, model.path("version"): {"$in": [1, None]} if version == 1 else version}


def known_fields(model: type[VersionedDocument], document: Mapping[str, Any]) -> Bson:
    """Return what an update writes of a document: the time of creation stays as it is stored."""
    kept = {ID, model.path("created_at")}
    return {name: value for name, value in document.items() if name not in kept}


def replacement(model: type[VersionedDocument], document: Mapping[str, Any]) -> list[Bson] | Bson:
    """An update that sets the known fields and leaves every other one alone, nested ones too.

    Where something is nested, the values stand within ``$literal``, so that a string such as
    ``$name`` is only a string.
    """
    # Each value stands in it once: the server takes an update of 16 MiB at most.
    known = known_fields(model, document)
    nested = {k: _merged(k, v) for k, v in known.items() if isinstance(v, dict)}
    for name, item in model.nested_lists():
        if known.get(name):
            nested[name] = _merged_by_name(f"${name}", item.path("name"), known[name])
    if not nested and not any("$" in name or "." in name for name in known):
        return {"$set": known}  # of which the server makes less than of a pipeline
    plain = {k: v for k, v in known.items() if k not in nested}
    return [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"$literal": plain}, nested]}}]


def _merged(field: str, values: Mapping[str, Any]) -> Bson:
    stored = f"${field}"
    is_object = {"$eq": [{"$type": stored}, "object"]}
    before = {"$cond": [is_object, stored, {}]}
    return {"$mergeObjects": [before, {"$literal": values}]}


def _merged_by_name(stored: str, name: str, items: list[Bson]) -> Bson:
    """The items, each over the stored one of its name."""
    is_array = {"$isArray": stored}
    namesake = {
        "$first": {
            "$filter": {
                "input": {"$cond": [is_array, stored, []]},
                "as": "old",
                "cond": {"$eq": [f"$$old.{name}", f"$$new.{name}"]},
            }
        }
    }
    merged = {"$mergeObjects": [namesake, "$$new"]}
    return {"$map": {"input": {"$literal": items}, "as": "new", "in": merged}}


def of_strategy(model: type[BacktestDocument], strategy_id: ObjectId) -> Bson:
    return {model.path("strategy_id"): refers_to(strategy_id)}


def older_than(model: type[BacktestDocument], run_at: datetime, identity: ObjectId) -> Bson:
    """Results behind that one where the newest comes first."""
    name = model.path("run_at")
    same_moment = {name: run_at, ID: {"$lt": identity}}
    # The first bound says nothing new, but lets the index begin there.
    return {name: {"$lte": run_at}, "$or": [{name: {"$lt": run_at}}, same_moment]}


def newest_first(model: type[BacktestDocument]) -> list[tuple[str, int]]:
    return [(model.path("run_at"), DESCENDING), (ID, DESCENDING)]


def best_ids(
    model: type[BacktestDocument],
    metric: Metric,
    strategy_id: ObjectId | None,
    skip: int,
    limit: int,
) -> list[Bson]:
    """The ids of the results that a metric ranks first.

    Only what is ranked goes through the sort, so that large documents do not.
    """
    # Not NaN and not infinity: others store those for a metric that is not defined.
    figure = model.path(f"metrics.{metric.value}")
    match: Bson = {figure: {"$gt": float("-inf"), "$lt": float("inf")}}
    if strategy_id is not None:
        match |= of_strategy(model, strategy_id)
    direction = DESCENDING if metric.higher_is_better else ASCENDING
    return [
        {"$match": match},
        {"$project": {_FIGURE: f"${figure}", model.path("run_at"): 1}},
        {"$sort": {_FIGURE: direction, **dict(newest_first(model))}},
        {"$skip": skip},
        {"$limit": limit},
        {"$project": {ID: 1}},
    ]


def only(model: type[Stored], *fields: str) -> Bson:
    """A projection to some fields."""
    return {model.path(field): 1 for field in fields}


def without(model: type[Stored], *fields: str) -> Bson:
    """A projection to all but some fields."""
    return {model.path(field): 0 for field in fields}


def words(query: object) -> list[str]:
    """The words of a search as `Formula.rank` sees them; what is no string is refused."""
    if not isinstance(query, str):
        raise InvalidData("must be a string", field="query", value=query)
    return list(dict.fromkeys(_WORD.findall(query.casefold())))


def whole_words(wanted: list[str]) -> str | None:
    """A ``$text`` search for documents with every word; None if the index cannot know them.

    Each word is a phrase, since ``$text`` joins mere words with "or". Phrases cannot be broken
    out of: words hold letters, digits and underscores only.
    """
    known = [word for word in wanted if len(word) <= _LONGEST_WORD][:_MOST_WORDS]
    return " ".join(f'"{word}"' for word in known) or None


def beginnings(model: type[FormulaDocument], wanted: list[str]) -> Bson:
    """A filter for formulas that have, for each word, a word that begins with it.

    It finds some others too, which `Formula.rank` sorts out: of many words only the longest are
    looked for, and of a long word only its beginning.
    """
    asked = sorted(wanted, key=len, reverse=True)[:_MOST_WORDS]
    names = [model.path(field) for field in ("name", "description", "tags")]
    return {"$and": [_begins_somewhere(names, word) for word in asked]}


def _begins_somewhere(names: Iterable[str], word: str) -> Bson:
    begins = {"$regex": beginning(word[:_LONGEST_WORD]), "$options": "i"}
    return {"$or": [{name: begins} for name in names]}
