"""``limits``: what counts of rate limits now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jts_storage.cli.output import AsJson, finished, print_json, print_table, printable, seconds

if TYPE_CHECKING:
    from jts_storage.domain.rate_limits import LimitState, RateLimitState


def limits(
    name: Annotated[str | None, typer.Argument(help="Only of this name, such as kis.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what counts of the rate limits that JTS_RATE_LIMITS sets, of each account.

    It asks where the limits are counted, and opens no other store.
    """
    found = finished(lambda: _states(name))
    if as_json:
        print_json([_object(each) for each in found])
    elif found:
        headers = ["name", "account", "limit", "used", "remaining", "in flight", "resets at"]
        print_table(headers, [row for each in found for row in _rows(each)])
    else:
        typer.echo("No rate limits are set. Set JTS_RATE_LIMITS, as kis=15/s,20000/d@Asia/Seoul.")


async def _states(name: str | None) -> Sequence[RateLimitState]:
    """Of every account; of a name of which nothing was counted, the limits alone."""
    from jts_storage.limiting import limiter_of
    from jts_storage.settings import StorageSettings

    limiter = limiter_of(StorageSettings.load(), None)
    try:
        return [
            await limiter.state(each, account)
            for each in (limiter.limits if name is None else [name])
            for account in await limiter.accounts(each) or [""]
        ]
    finally:
        await limiter.close()


def _rows(state: RateLimitState) -> Iterator[tuple[Any, ...]]:
    for number, each in enumerate(state.limits):
        first = (state.name, printable(state.account)) if number == 0 else ("", "")
        in_flight = f"{state.in_flight:,}" if number == 0 else ""
        resets = "" if each.resets_at is None else seconds(each.resets_at)
        yield (*first, str(each.limit), f"{each.used:,}", f"{each.remaining:,}", in_flight, resets)


def _object(state: RateLimitState) -> dict[str, Any]:
    return {
        "name": state.name,
        "account": state.account,
        "in_flight": state.in_flight,
        "limits": [_limit(each) for each in state.limits],
    }


def _limit(state: LimitState) -> dict[str, Any]:
    return {
        "limit": state.limit.limit,
        "per": state.limit.UNIT,
        "timezone": getattr(state.limit, "timezone", None),
        "used": state.used,
        "remaining": state.remaining,
        "resets_at": state.resets_at,
    }
