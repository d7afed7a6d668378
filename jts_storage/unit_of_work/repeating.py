"""How often, and after which pauses, the work of a unit of work is done again."""

from __future__ import annotations

from typing import Any

from jts_storage.domain import checks
from jts_storage.errors import StorageError

_LONGEST_PAUSE = 1.0


def retry_policy(attempts: int) -> dict[str, Any]:
    """Return how often, and after which pauses, work is repeated in a new unit of work."""
    from tenacity import retry_if_exception, stop_after_attempt, wait_random_exponential

    checks.whole(attempts, "attempts", least=1)
    return {
        "retry": retry_if_exception(_is_transient),
        "stop": stop_after_attempt(attempts),
        # A conflict is over within milliseconds; at random, so that the same two do not meet again.
        "wait": wait_random_exponential(multiplier=0.005, max=_LONGEST_PAUSE),
        "reraise": True,
    }


def _is_transient(exc: BaseException) -> bool:
    return isinstance(exc, StorageError) and exc.transient
