"""Whether ClickHouse answers, found out within a fixed time."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from jts_storage.clickhouse import connector
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.errors import translated
from jts_storage.errors import StorageError

_log = logging.getLogger(__name__)


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
        self._lock = threading.Lock()
        self._asking: _Question | None = None

    def ask(self) -> bool:
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = _Question(self._config)
                self._asking.start()
            question = self._asking
        question.join(self._timeout)
        if question.is_alive():
            _log.warning("ClickHouse gave no answer within %s s", self._timeout)
        return question.answered


class _Question(threading.Thread):
    def __init__(self, config: ClickHouseConfig) -> None:
        super().__init__(name="clickhouse-health", daemon=True)
        self._config = config
        self.answered = False

    def run(self) -> None:
        try:
            with translated("a health check", self._config.hosts):
                connection = connector.connect(self._config)
                try:
                    self.answered = connection.transport.execute("SELECT 1") == [(1,)]
                finally:
                    connection.close()
        except StorageError as failure:
            _log.warning("ClickHouse is not healthy: %s", failure)
