"""Rate limits as they are written in settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, PlainSerializer, PlainValidator, SecretStr

from jts_storage.domain.rate_limits import Limit, PerDay, PerMinute, PerSecond, RateLimits
from jts_storage.errors import InvalidConfiguration, InvalidData

_EXAMPLE: Final = "Write kis=15/s,20000/d@Asia/Seoul;other=20/s, or JSON."
_LIMIT: Final = re.compile(r"(?P<limit>[\d_]+)/(?P<unit>[smd])(?:@(?P<zone>[\w+/-]+))?")
_UNITS: Final[Mapping[str, Callable[..., Limit]]] = {
    "s": PerSecond,
    "m": PerMinute,
    "d": PerDay,
    "second": PerSecond,
    "minute": PerMinute,
    "day": PerDay,
}


def read_limits(given: Any) -> RateLimits:
    """Limits from ``kis=15/s,20000/d@Asia/Seoul``, from JSON, or as they are.

    In JSON a limit is such a text or an object: ``{"kis": ["15/s", {"limit": 20000, "per": "day",
    "timezone": "Asia/Seoul"}]}``.

    :raises InvalidConfiguration: it is none of these, or a limit has a value that it cannot have.
    """
    try:
        return RateLimits(_names(given))
    except InvalidData as exc:
        raise InvalidConfiguration(f"rate limits: {exc.args[0]}", remedy=exc.remedy) from exc


def _names(given: Any) -> Mapping[str, Sequence[Limit]]:
    if isinstance(given, str):
        given = _of_json(given) if given.lstrip().startswith("{") else _of_text(given)
    if not isinstance(given, Mapping):
        raise InvalidConfiguration("rate limits are no mapping of names", remedy=_EXAMPLE)
    return {name: _limits(each) for name, each in given.items()}


def _of_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise InvalidConfiguration(f"rate limits are no JSON: {exc}", remedy=_EXAMPLE) from None


def _of_text(text: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, limits = part.partition("=")
        if not equals or name.strip() in names:
            what = "has no limits" if not equals else "is there twice"
            raise InvalidConfiguration(f"rate limits: {name.strip()!r} {what}", remedy=_EXAMPLE)
        names[name.strip()] = [each.strip() for each in limits.split(",")]
    return names


def _limits(given: Any) -> list[Limit]:
    several = given if isinstance(given, list | tuple) else [given]
    return [_limit(each) for each in several]


def _limit(given: Any) -> Limit:
    if isinstance(given, PerSecond | PerMinute | PerDay):
        return given
    if isinstance(given, str):
        return _of_words(given)
    if not isinstance(given, Mapping) or given.get("per") not in _UNITS:
        raise InvalidConfiguration(f"{given!r} is no rate limit", remedy=_EXAMPLE)
    fields = {name: value for name, value in given.items() if name != "per"}
    try:
        return _UNITS[given["per"]](**fields)
    except TypeError:
        raise InvalidConfiguration(
            f"{given!r} is no rate limit",
            remedy="It has limit and per; a day has timezone, others counts and margin.",
        ) from None


def _of_words(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if found is None or (found["zone"] and found["unit"] != "d"):
        raise InvalidConfiguration(f"{text!r} is no rate limit", remedy=_EXAMPLE)
    zone = {"timezone": found["zone"]} if found["zone"] else {}
    return _UNITS[found["unit"]](int(found["limit"].replace("_", "") or 0), **zone)


def _written(limits: RateLimits) -> dict[str, list[dict[str, Any]]]:
    """As JSON has them."""
    return {name: [_object(each) for each in of] for name, of in limits.items()}


def _object(limit: Limit) -> dict[str, Any]:
    own = (
        {"timezone": limit.timezone}
        if isinstance(limit, PerDay)
        else {"counts": limit.counts, "margin": limit.margin}
    )
    return {"limit": limit.limit, "per": limit.UNIT, **own}


Limits = Annotated[
    RateLimits, PlainValidator(read_limits), PlainSerializer(_written, when_used="json")
]


class RateLimitFields(BaseModel):
    """The settings of rate limits; a part of `StorageSettings`."""

    rate_limits: Limits = RateLimits()
    """What may be asked of others, by name: ``kis=15/s,20000/d@Asia/Seoul;other=20/s``, or JSON."""

    rate_limits_url: SecretStr | None = None
    """Where it is counted: ``redis://host/0`` or ``sqlite:///path``. If not set, in the Redis of
    `redis_url`, else in a file of the data folder."""

    rate_limits_despite_eviction: bool = False
    """Whether to count in a Redis that may evict what was counted."""
