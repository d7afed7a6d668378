"""Whether ClickHouse answers, found out within a fixed time."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import func, select

from jts_storage._runtime.answers import Answers
from jts_storage.clickhouse import connector, system
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.errors import translated
from jts_storage.errors import StorageError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a health probe found.

    :ivar answers: whether ClickHouse answered in time.
    :ivar broken_parts: parts it put aside because they are damaged: reads miss their rows. 0 where
        it did not answer or the user may not know.
    """

    answers: bool = False
    broken_parts: int = 0


class HealthProbe:
    """Asks over a connection of its own, in a thread of its own.

    The thread is waited for no longer than ``health_timeout``: resolving a name or a slow engine
    may take it longer, and a later question then waits for the same thread.
    """

    def __init__(self, config: ClickHouseConfig) -> None:
        self._timeout = config.health_timeout
        each = config.health_timeout / len(config.hosts)
        self._config = replace(
            config,
            connect_timeout=min(each, config.connect_timeout),
            send_receive_timeout=config.health_timeout,
        )
        self._answers = Answers(_log, "ClickHouse")
        self._lock = threading.Lock()
        self._asking: _Question | None = None

    def ask(self) -> ServerState:
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = _Question(self._config)
                self._asking.start()
            question = self._asking
        question.join(self._timeout)
        if question.is_alive() and not question.state.answers:
            self._answers.seen(f"it gave no answer within {self._timeout:g} s")
        else:
            self._answers.seen(question.failure)
        return question.state


class _Question(threading.Thread):
    def __init__(self, config: ClickHouseConfig) -> None:
        # A daemon, so that a probe which hangs does not keep the process from ending.
        super().__init__(name="clickhouse-health", daemon=True)
        self._config = config
        self.state = ServerState()
        self.failure: StorageError | None = None

    def run(self) -> None:
        try:
            with translated("a health check", self._config.hosts):
                connection = connector.connect(self._config)
                try:
                    answers = connection.transport.execute("SELECT 1") == [(1,)]
                    # At once: to count the parts may take longer than the caller waits.
                    self.state = ServerState(answers)
                    self.state = ServerState(answers, _broken_parts(connection.transport))
                finally:
                    connection.close()
        except StorageError as failure:
            self.failure = failure


@cache
def _count_broken_parts() -> str:
    rows = system.detached_parts
    return text_of(select(func.count()).select_from(rows).where(system.is_broken()))


def _broken_parts(transport: Any) -> int:
    try:
        with translated("counting broken parts"):
            return int(transport.execute(_count_broken_parts())[0][0])
    except StorageError as failure:  # it has answered; a right that is missing is no illness
        _log.debug("Broken parts could not be counted: %s", failure)
        return 0
