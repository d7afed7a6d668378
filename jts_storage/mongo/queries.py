"""Filters, updates and pipelines, built from values that can never become operators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from bson import ObjectId

from jts_storage.domain import checks
from jts_storage.domain.enums import Metric
from jts_storage.errors import InvalidData
from jts_storage.mongo.letters import beginning

Bson = dict[str, Any]

FORMULA_REFERENCES: Final = ("entryFormulaId", "exitFormulaId", "stopLossRule.formulaId")
_SEARCHED: Final = ("name", "description", "tags")
_METRIC_FIELDS: Final = {
    Metric.TOTAL_RETURN_PCT: "totalReturnPct",
    Metric.SHARPE_RATIO: "sharpeRatio",
    Metric.MAX_DRAWDOWN_PCT: "maxDrawdownPct",
    Metric.WIN_RATE: "winRate",
    Metric.PROFIT_FACTOR: "profitFactor",
    Metric.TOTAL_TRADES: "totalTrades",
}
_WORD: Final = re.compile(r"\w+")
_LONGEST_WORD: Final = 64
_MOST_WORDS: Final = 8


def object_id(identity: object) -> ObjectId | None:
    """None for what names no document."""
    if isinstance(identity, str) and checks.is_document_id(identity):
        return ObjectId(identity)
    return None


def count(limit: object) -> int:
    """:raises InvalidData: `limit` is no number of documents."""
    return checks.whole(limit, "limit", below=2**31)


def tagged(tags: Iterable[object]) -> Bson:
    """Documents that carry every one of the tags."""
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidData("must be several strings", field="tags", value=tags)
    return {"tags": {"$all": [checks.text(tag, "tags") for tag in tags]}}


def uses_formula(formula_id: ObjectId) -> Bson:
    """Strategies that refer to the formula in any role."""
    return {"$or": [{field: refers_to(formula_id)} for field in FORMULA_REFERENCES]}


def refers_to(identity: ObjectId) -> Bson:
    """A reference to the document, also one that was stored as a string."""
    text = str(identity)
    return {"$in": [identity, *sorted({text, text.upper()})]}


def of_version(identity: ObjectId, version: int) -> Bson:
    """The document, if it is still of that version; one without any is of the first."""
    return {"_id": identity, "version": {"$in": [1, None]} if version == 1 else version}


def known_fields(document: Mapping[str, Any]) -> Bson:
    """What an update writes of a document."""
    return {k: v for k, v in document.items() if k not in {"_id", "createdAt"}}


def replacement(document: Mapping[str, Any]) -> list[Bson]:
    """An update that sets the known fields and leaves every other one alone, nested ones too.

    The values stand within ``$literal``, so that a string such as ``$name`` is only a string.
    """
    # Each value stands in it once: the server takes an update of 16 MiB at most.
    known = known_fields(document)
    nested = {k: _merged(k, v) for k, v in known.items() if isinstance(v, dict)}
    if known.get("parameters"):
        nested["parameters"] = _merged_by_name("$parameters", known["parameters"])
    plain = {k: v for k, v in known.items() if k not in nested}
    return [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"$literal": plain}, nested]}}]


def _merged(field: str, values: Mapping[str, Any]) -> Bson:
    stored = f"${field}"
    is_object = {"$eq": [{"$type": stored}, "object"]}
    before = {"$cond": [is_object, stored, {}]}
    return {"$mergeObjects": [before, {"$literal": values}]}


def _merged_by_name(stored: str, items: list[Bson]) -> Bson:
    """The items, each over the stored one of its name."""
    is_array = {"$isArray": stored}
    namesake = {
        "$first": {
            "$filter": {
                "input": {"$cond": [is_array, stored, []]},
                "as": "old",
                "cond": {"$eq": ["$$old.name", "$$new.name"]},
            }
        }
    }
    merged = {"$mergeObjects": [namesake, "$$new"]}
    return {"$map": {"input": {"$literal": items}, "as": "new", "in": merged}}


def older_than(run_at: datetime, identity: ObjectId) -> Bson:
    """Results behind that one where the newest comes first."""
    same_moment = {"runAt": run_at, "_id": {"$lt": identity}}
    return {"runAt": {"$lte": run_at}, "$or": [{"runAt": {"$lt": run_at}}, same_moment]}


def best_ids(metric: Metric, strategy_id: ObjectId | None, skip: int, limit: int) -> list[Bson]:
    """The ids of the results that a metric ranks first.

    Only what is ranked goes through the sort, so that large documents do not.
    """
    field = f"metrics.{_METRIC_FIELDS[metric]}"
    match: Bson = {field: {"$gt": float("-inf"), "$lt": float("inf")}}
    if strategy_id is not None:
        match["strategyId"] = refers_to(strategy_id)
    direction = -1 if metric.higher_is_better else 1
    return [
        {"$match": match},
        {"$project": {"figure": f"${field}", "runAt": 1}},
        {"$sort": {"figure": direction, "runAt": -1, "_id": -1}},
        {"$skip": skip},
        {"$limit": limit},
        {"$project": {"_id": 1}},
    ]


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


def beginnings(wanted: list[str]) -> Bson:
    """A filter that lets everything through in which every word begins a word, and some more.

    The last say has `Formula.rank`. Of very many or very long words only a part is asked for.
    """
    asked = sorted(wanted, key=len, reverse=True)[:_MOST_WORDS]
    return {"$and": [_begins_somewhere(word) for word in asked]}


def _begins_somewhere(word: str) -> Bson:
    begins = {"$regex": beginning(word[:_LONGEST_WORD]), "$options": "i"}
    return {"$or": [{field: begins} for field in _SEARCHED]}
