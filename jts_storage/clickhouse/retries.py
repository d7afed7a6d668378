"""How often a statement is tried again, and after which pauses."""

from __future__ import annotations

import logging

import tenacity

from jts_storage.clickhouse import errors
from jts_storage.clickhouse.config import ClickHouseConfig

_log = logging.getLogger(__name__)


def attempts(config: ClickHouseConfig) -> tenacity.Retrying:
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(config.max_retries + 1)
        | tenacity.stop_before_delay(config.retry_timeout),
        wait=tenacity.wait_exponential(config.retry_base_delay, config.retry_max_delay)
        + tenacity.wait_random(0, config.retry_base_delay),
        retry=tenacity.retry_if_exception(errors.is_retryable),
        before_sleep=_report,
        reraise=True,
    )


def _report(state: tenacity.RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    _log.warning("ClickHouse attempt %d failed, trying again: %s", state.attempt_number, failure)
