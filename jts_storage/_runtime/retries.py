"""How often, and after which pauses, a failed operation is repeated: the same for every store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from jts_storage._runtime.steps import RETRIED, tell
from jts_storage.errors import StorageError

log = logging.getLogger(__name__)


class Pauses(Protocol):
    """What every store's configuration has."""

    @property
    def retry_base_delay(self) -> float: ...
    @property
    def retry_max_delay(self) -> float: ...
    @property
    def retry_timeout(self) -> float: ...


def is_repeatable(exc: BaseException) -> bool:
    return isinstance(exc, StorageError) and exc.repeatable


def repetitions(
    pauses: Pauses,
    attempts: int,
    *,
    doing: str,
    worth: Callable[[BaseException], bool] = is_repeatable,
    first_pause: float | None = None,
) -> dict[str, Any]:
    """The arguments of tenacity's `Retrying` or `AsyncRetrying`.

    :param worth: which failures are tried again.
    :param first_pause: at most, instead of `retry_base_delay`.
    """

    def told(state: RetryCallState) -> None:
        tell(RETRIED)
        failure = state.outcome.exception() if state.outcome else None
        log.warning("Attempt %d of %s failed: %s", state.attempt_number, doing, failure)

    # Random pauses: those who failed together do not come back together.
    base = pauses.retry_base_delay if first_pause is None else first_pause
    return {
        "retry": retry_if_exception(worth),
        "stop": stop_after_attempt(attempts) | stop_before_delay(pauses.retry_timeout),
        "wait": wait_random_exponential(multiplier=base, max=pauses.retry_max_delay),
        "before_sleep": told,
        "reraise": True,
    }
