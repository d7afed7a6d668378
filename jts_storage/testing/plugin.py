"""Fixtures for tests of services; pytest finds this plugin when the package is installed.

It is loaded by every pytest of an environment that has the package, so it imports nothing of the
kit before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jts_storage.domain.backtest import BacktestResult
    from jts_storage.domain.formula import Formula
    from jts_storage.domain.rate_limits import RateLimits
    from jts_storage.domain.series import CandleSeries
    from jts_storage.domain.strategy import Strategy
    from jts_storage.domain.symbol import Symbol
    from jts_storage.ports.models import Model
    from jts_storage.ports.unit_of_work import UnitOfWork
    from jts_storage.settings import StorageSettings
    from jts_storage.storage import Storage
    from jts_storage.sync import Storage as SyncStorage
    from jts_storage.testing.address import Address
    from jts_storage.testing.backends import Stack
    from jts_storage.testing.watch import Watch

_STACK = pytest.StashKey["Stack"]()
_BACKENDS = ("memory", "embedded", "servers", "containers", "env")
_ADDRESSES = ("clickhouse", "mongo", "postgres")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("jts-storage")
    group.addoption(
        "--jts-backend",
        choices=_BACKENDS,
        help="where jts_storage keeps its data: in memory, embedded (chDB, mongod, SQLite), on"
        " local servers, in containers, or where JTS_* says (default: embedded if its extra is"
        " installed, else memory)",
    )
    group.addoption(
        "--jts-erase-any-database",
        action="store_true",
        help="with --jts-backend=env and jts_erase_any_database in the configuration: use, and"
        " therefore empty, databases whose names do not end in _test",
    )
    parser.addini("jts_backend", "the default of --jts-backend", default="")
    parser.addini(
        "jts_erase_any_database",
        "the other half of --jts-erase-any-database",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    plugins = config.pluginmanager
    if any(plugins.hasplugin(name) for name in ("asyncio", "pytest_asyncio")):
        from jts_storage.testing import asyncio_fixtures

        plugins.register(asyncio_fixtures, "jts_storage_asyncio")
    if any(plugins.hasplugin(name) for name in ("anyio", "anyio.pytest_plugin")):
        from jts_storage.testing import anyio_fixtures

        plugins.register(anyio_fixtures, "jts_storage_anyio")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Faults end before what the test opened is closed: a client that cannot say goodbye waits."""
    stack = item.config.stash.get(_STACK, None)
    if stack is not None:
        stack.clear_faults()


# ---- storages


@pytest.fixture
def jts_storage(request: pytest.FixtureRequest) -> Storage:
    """A clean `Storage` with its schema in place, open on the test's event loop."""
    storage: Storage = _on_the_loop_of(request, "storage")
    return storage


@pytest.fixture
def jts_uow(request: pytest.FixtureRequest) -> UnitOfWork:
    """A unit of work of `jts_storage`, begun; what is not committed is rolled back at the end."""
    uow: UnitOfWork = _on_the_loop_of(request, "uow")
    return uow


@pytest.fixture
def jts_memory_storage(request: pytest.FixtureRequest) -> Storage:
    """A clean `Storage` in memory, whatever the backend is."""
    storage: Storage = _on_the_loop_of(request, "memory_storage")
    return storage


@pytest.fixture
def jts_sync_storage(
    request: pytest.FixtureRequest, _jts_backend: str, _jts_watch: Watch
) -> Iterator[SyncStorage]:
    """A clean blocking `jts_storage.sync.Storage`; for plain functions and unittest's classes."""
    from jts_storage.sync import Storage

    with Storage(_unopened(request, _jts_backend)) as storage:
        yield storage


@pytest.fixture
def jts_settings(_jts_stack: Stack, _jts_settings_early: StorageSettings) -> StorageSettings:
    """Settings of clean stores, for a service that opens its own `Storage`.

    Stores whose address the test asks for too are reached where they can be made to fail. Memory
    has no settings: with that backend these are embedded stores.
    """
    _jts_stack.finish_cleaning()
    return _jts_settings_early


@pytest.fixture
def _jts_settings_early(
    request: pytest.FixtureRequest, _jts_stack: Stack, _jts_watch: Watch
) -> StorageSettings:
    """`jts_settings` while the stores may still be emptied."""
    asked = frozenset(name for name in _ADDRESSES if f"jts_{name}" in request.fixturenames)
    for name in sorted(asked):
        request.getfixturevalue(f"jts_{name}")
    _jts_stack.begin_cleaning(_jts_stack.needed(asked) - asked)
    settings = _jts_stack.settings(asked)
    limits: RateLimits | None = request.getfixturevalue("jts_rate_limits")
    if limits is not None:
        settings = settings.model_copy(update={"rate_limits": limits})
    if "jts_cache" not in request.fixturenames:
        return settings
    from pydantic import SecretStr

    address: Address = request.getfixturevalue("jts_redis")
    return settings.model_copy(update={"redis_url": SecretStr(address.url), "cache": "redis"})


@pytest.fixture(scope="session")
def jts_models() -> Iterable[Model[Any]]:
    """The models of the service, beside those that installed packages name: override it."""
    return ()


@pytest.fixture(scope="session")
def jts_rate_limits() -> RateLimits | None:
    """The rate limits of the service, counted anew in each test; those of the settings if None."""
    return None


@pytest.fixture
def _jts_unopened(request: pytest.FixtureRequest, _jts_backend: str, _jts_watch: Watch) -> Storage:
    return _unopened(request, _jts_backend)


@pytest.fixture
def _jts_memory_unopened(
    _jts_watch: Watch, jts_models: Iterable[Model[Any]], jts_rate_limits: RateLimits | None
) -> Storage:
    from jts_storage.testing.storages import storage_over

    return storage_over(None, models=jts_models, rate_limits=jts_rate_limits)


# ---- addresses


@pytest.fixture
def jts_clickhouse(_jts_stack: Stack, _jts_watch: Watch) -> Iterator[Address]:
    """Where a clean ClickHouse listens for the native protocol, with faults on demand.

    `jts_storage` and `jts_settings` of the same test use it too.
    """
    yield from _address(_jts_stack, _jts_watch, "clickhouse")


@pytest.fixture
def jts_mongo(_jts_stack: Stack, _jts_watch: Watch) -> Iterator[Address]:
    """Where a clean MongoDB listens, with faults on demand; see `jts_clickhouse`."""
    yield from _address(_jts_stack, _jts_watch, "mongo")


@pytest.fixture
def jts_postgres(_jts_stack: Stack, _jts_watch: Watch) -> Iterator[Address]:
    """Where a clean PostgreSQL listens, with faults on demand; see `jts_clickhouse`."""
    yield from _address(_jts_stack, _jts_watch, "postgres")


@pytest.fixture
def jts_redis(_jts_stack: Stack, _jts_watch: Watch) -> Iterator[Address]:
    """Where an empty Redis listens, with faults on demand; see `jts_cache`."""
    yield from _address(_jts_stack, _jts_watch, "redis")


@pytest.fixture
def jts_cache(jts_redis: Address) -> Address:
    """The address of `jts_redis`, in which `jts_storage` and `jts_settings` keep their cache.

    It is empty for each test; `jts_storage.cache_statistics()` tells what the test did with it.
    """
    return jts_redis


# ---- entities


@pytest.fixture(scope="session")
def make_candles() -> Callable[..., CandleSeries]:
    """`jts_storage.testing.factories.make_candles`."""
    from jts_storage.testing import factories

    return factories.make_candles


@pytest.fixture(scope="session")
def make_symbol() -> Callable[..., Symbol]:
    """`jts_storage.testing.factories.make_symbol`."""
    from jts_storage.testing import factories

    return factories.make_symbol


@pytest.fixture(scope="session")
def make_formula() -> Callable[..., Formula]:
    """`jts_storage.testing.factories.make_formula`."""
    from jts_storage.testing import factories

    return factories.make_formula


@pytest.fixture(scope="session")
def make_strategy() -> Callable[..., Strategy]:
    """`jts_storage.testing.factories.make_strategy`."""
    from jts_storage.testing import factories

    return factories.make_strategy


@pytest.fixture(scope="session")
def make_backtest() -> Callable[..., BacktestResult]:
    """`jts_storage.testing.factories.make_backtest`."""
    from jts_storage.testing import factories

    return factories.make_backtest


@pytest.fixture(scope="session")
def make_rate_limits() -> Callable[..., RateLimits]:
    """`jts_storage.testing.factories.make_rate_limits`."""
    from jts_storage.testing import factories

    return factories.make_rate_limits


# ---- what they stand on


@pytest.fixture(scope="session")
def _jts_backend(pytestconfig: pytest.Config) -> str:
    from jts_storage.testing.backends import default_backend

    named = pytestconfig.getoption("--jts-backend") or pytestconfig.getini("jts_backend")
    if named and named not in _BACKENDS:
        raise pytest.UsageError(f"jts_backend is {named!r}, not one of {', '.join(_BACKENDS)}")
    return named or default_backend()


@pytest.fixture(scope="session")
def _jts_stack(
    pytestconfig: pytest.Config, _jts_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    from jts_storage.testing.backends import open_stack

    worker = getattr(pytestconfig, "workerinput", {}).get("workerid")
    base = tmp_path_factory.getbasetemp()
    confirmed = pytestconfig.getini("jts_erase_any_database") and pytestconfig.getoption(
        "--jts-erase-any-database"
    )
    stack = open_stack(
        _jts_backend,
        worker,
        base.parent if worker else base,
        confirmed=bool(confirmed),
    )
    pytestconfig.stash[_STACK] = stack
    yield stack
    stack.close()


@pytest.fixture
def _jts_watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    """Fails the test that leaves something open; set up before, so torn down after the others."""
    from jts_storage.testing.watch import Watch

    with Watch() as watch:
        yield watch
    left = watch.left_open()
    if left:
        watch.forget()
        if "_jts_stack" in request.fixturenames:
            request.getfixturevalue("_jts_stack").break_off()
        pytest.fail(f"{request.node.nodeid} left open: {'; '.join(left)}", pytrace=False)


def _unopened(request: pytest.FixtureRequest, backend: str) -> Storage:
    from jts_storage.testing.storages import storage_over

    models: Iterable[Model[Any]] = request.getfixturevalue("jts_models")
    limits: RateLimits | None = request.getfixturevalue("jts_rate_limits")
    if backend == "memory":
        return storage_over(None, models=models, rate_limits=limits)
    settings: StorageSettings = request.getfixturevalue("_jts_settings_early")
    stack: Stack = request.getfixturevalue("_jts_stack")
    return storage_over(settings, stack.finish_cleaning, models, limits)


def _address(stack: Stack, watch: Watch, name: str) -> Iterator[Address]:
    stack.clean([name])
    address = stack.address(name)
    before = address.open_connections
    yield address
    watch.check_address(f"jts_{name}", address, before)


def _on_the_loop_of(request: pytest.FixtureRequest, name: str) -> Any:
    """The asynchronous fixture behind, as whatever runs the test runs fixtures."""
    return request.getfixturevalue(f"_jts_{name}_in_{_runner(request)}")


def _runner(request: pytest.FixtureRequest) -> str:
    plugins = request.config.pluginmanager
    marker = request.node.get_closest_marker("asyncio")
    if "anyio_backend" in request.fixturenames:
        return _checked_anyio(request, taken_by_asyncio=marker is not None)
    if not plugins.hasplugin("jts_storage_asyncio"):
        pytest.fail(
            f"{request.fixturename} is asynchronous and needs pytest-asyncio or anyio; blocking"
            " tests take jts_sync_storage.",
            pytrace=False,
        )
    named = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") if marker else None
    scope = named or request.config.getini("asyncio_default_test_loop_scope") or "function"
    return f"{scope}_loop"


def _checked_anyio(request: pytest.FixtureRequest, *, taken_by_asyncio: bool) -> str:
    backend = request.getfixturevalue("anyio_backend")
    name = backend if isinstance(backend, str) else backend[0]
    if name != "asyncio":
        pytest.fail(
            f"the stores need asyncio, and this test runs on {name}: let the fixture anyio_backend"
            ' return "asyncio".',
            pytrace=False,
        )
    if taken_by_asyncio:
        pytest.fail(
            "both anyio and pytest-asyncio run this test, each on its own event loop: with anyio,"
            " leave asyncio_mode at strict.",
            pytrace=False,
        )
    return "anyio"
