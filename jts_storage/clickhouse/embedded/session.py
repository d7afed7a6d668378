"""One connection to the embedded engine: opened, given its settings, asked, closed.

SET, USE and CREATE DATABASE are text: Core does not know them, and they name no column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from chdb import ChdbError
from clickhouse_driver.errors import PartiallyConsumedQueryError

from jts_storage.clickhouse.change_log import known
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.driver_internals import CLIENT_SETTINGS, Context, ServerInfo
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.errors import EmbeddedError
from jts_storage.clickhouse.sql import is_select, literal, only_reads, quoted
from jts_storage.loading_internals import tell_version

_DRAINS = 3  # tries at a clean answer
_NATIVE_REVISION = 0  # the plain format of files: no block info, no custom serialization


class EmbeddedSession:
    """A session of the engine in this process; results come in Native format."""

    def __init__(self, config: ClickHouseConfig) -> None:
        assert config.embedded_path is not None
        self._config = config
        # At 2 a session may change its settings, but no data; at 1 it may do neither.
        self._base = dict(config.settings) | ({"readonly": 2} if config.readonly else {})
        self._connection: Any = None
        self._applied: dict[str, Any] = {}
        self._stream: Any = None
        self._context: Any = None

    # ---- life

    def connect(self) -> None:
        engine.check_process()
        if self._connection is not None:
            return
        path = self._config.embedded_path
        assert path is not None
        self._connection = engine.acquire(path, fsync=self._config.fsync)
        try:
            self._use_database()
            self._context = self._describe_server()
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._applied = {}
        if connection is not None:
            self.discard_unfinished()
            engine.release(connection)

    def ping(self) -> bool:
        self._query("SELECT 1")
        return True

    def is_broken(self) -> bool:
        return self._connection is None

    def discard_unfinished(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and not engine.is_forked():
            stream.cancel()

    def server_version(self) -> str:
        self.connect()
        return ".".join(map(str, self._context.server_info.version_tuple()))

    # ---- statements

    @property
    def context(self) -> Context:
        """What clickhouse-driver's readers and writers need to know of the server."""
        self.connect()
        return self._context

    def apply(self, settings: Mapping[str, Any] | None) -> None:
        """Give the session the settings of this statement alone; mostly nothing changes."""
        self.connect()
        self.discard_unfinished()
        wanted = self._base | {
            k: v for k, v in (settings or {}).items() if k not in CLIENT_SETTINGS
        }
        changes = {k: literal(v) for k, v in wanted.items() if self._applied.get(k) != v}
        changes |= {k: "DEFAULT" for k in self._applied if k not in wanted}
        if not changes:
            return
        try:
            self._set(changes)
        except EmbeddedError:
            if not self._applied:
                raise
            self._begin_anew()
            self._set({k: literal(v) for k, v in wanted.items()})
        self._applied = wanted

    def _set(self, values: Mapping[str, str]) -> None:
        if values:
            self._asked("SET " + ", ".join(f"{k} = {v}" for k, v in values.items()))

    def _begin_anew(self) -> None:
        """Get a fresh session: what the last statement set may forbid to set anything else."""
        spoilt, self._connection, self._applied = self._connection, None, {}
        try:
            self.connect()  # before the other is closed: with the last one, `:memory:` is gone
        finally:
            engine.release(spoilt)

    def _query(self, query: str, template: str | None = None) -> Any:
        """Run a statement.

        :param template: the statement without its values, which do not say what it does.
        """
        self.connect()
        with _counted(template or query):
            return self._asked(query)

    def _asked(self, query: str) -> Any:
        try:
            with engine_errors():
                return self._connection.query(query, "Native")
        except EmbeddedError:
            self._drop_rows_of_the_failed()
            raise

    def _drop_rows_of_the_failed(self) -> None:
        """Discard the rows that chDB keeps of a query which failed in the middle of its result.

        They would come before the rows of the next query.
        """
        for _ in range(_DRAINS):
            try:
                answer = self._connection.query("SELECT 1", "TabSeparated")
            except Exception:  # noqa: BLE001 - the first error is the one to report
                return
            if answer.bytes() == b"1\n":
                return

    def _chunks(self, query: str, template: str | None = None) -> Iterator[Any]:
        if not is_select(query):  # nothing else can be streamed
            result = self._query(query, template)
            if result.size():
                yield result
            return
        with _counted(template or query), engine_errors():
            self._stream = stream = self._connection.send_query(query, "Native")
            try:
                while (chunk := stream.fetch()) is not None:
                    yield chunk
                # Another statement began meanwhile, and has cancelled this stream.
                if self._stream is not stream:
                    raise PartiallyConsumedQueryError
            finally:
                if self._stream is stream:
                    self.discard_unfinished()

    # ---- opening

    def _use_database(self) -> None:
        name = quoted(self._config.database)
        with engine_errors():
            if not self._config.readonly:
                self._connection.query(f"CREATE DATABASE IF NOT EXISTS {name}")
            self._connection.query(f"USE {name}")

    def _describe_server(self) -> Context:
        answer = self._connection.query("SELECT version(), timezone()", "TabSeparated")
        version, timezone = answer.bytes().decode().split()
        tell_version(version)
        major, minor, patch, *_ = (*map(int, version.split(".")), 0, 0)
        context = Context()
        context.server_info = ServerInfo(
            "chDB", major, minor, patch, 0, timezone, "embedded", _NATIVE_REVISION
        )
        context.settings = {}
        context.client_settings = CLIENT_SETTINGS
        return context


@contextmanager
def _counted(statement: str) -> Iterator[None]:
    """Tell those who hold what they have read of all that may do more than read."""
    if only_reads(statement):
        yield
        return
    with engine.changes.change(known()):
        yield


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the engine's texts into the errors a server would have sent."""
    try:
        yield
    except UnicodeDecodeError as exc:  # the text of an error that repeats a value of the row
        raise EmbeddedError.parse(exc.object.decode(errors="replace")) from exc
    except (ChdbError, RuntimeError) as exc:
        raise EmbeddedError.parse(str(exc)) from exc
