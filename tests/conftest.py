"""What every test gets: Hypothesis profiles, a report of the engines used, a guard on threads."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import runs

if TYPE_CHECKING:  # drivers, which most unit tests need not wait for
    from jts_storage import StorageSettings
    from jts_storage.local_servers.mongod import LocalMongod
    from tests.prepared import Emptied, Prepared

settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=2_000)
settings.load_profile("default")

# Whoever runs this in the background may have it ignored, and with it every process started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A machine that runs two workers and their servers may keep a healthy store from answering in time.
os.environ.setdefault("JTS_HEALTH_TIMEOUT", "5")

# Tests start many processes and import much: it is compiled once, whatever the shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_MEMORY = Path("/dev/shm")
_BYTES_FOR_STORES = 8 * 1024**3


def _keep_stores_in_memory() -> None:
    """Let temporary folders be in memory where there is room: stores wait for no disk there.

    TMPDIR, if set, is left alone: `TMPDIR=/var/tmp pytest` runs on a disk.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_MEMORY).free > _BYTES_FOR_STORES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


_keep_stores_in_memory()

_ENGINES = pytest.StashKey[set[str]]()
_THREADS_BEFORE = pytest.StashKey[set[threading.Thread]]()
_SECONDS_FOR_THREADS_TO_END = 2.0
_SECONDS_FOR_A_SLOW_TEST = 1_800


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ENGINES] = set()
    runs.end_when_a_worker_is_lost(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """What is collected stays: looking for garbage among it takes time again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    if runs.is_left_to_the_night(item):
        item.add_marker(pytest.mark.slow)
    if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(_SECONDS_FOR_A_SLOW_TEST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=runs.rank)  # after pytest-randomly, which comes first


@pytest.fixture(scope="session")
def engine_used(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Fixtures that start or reach a real engine call this with its name and version."""
    engines: set[str] = pytestconfig.stash[_ENGINES]
    return engines.add


@pytest.fixture(scope="session")
def calendars(pytestconfig: pytest.Config) -> Path:
    """Where commands of all tests may keep calendars; that of Korea takes seconds to make."""
    cache: pytest.Cache | None = pytestconfig.cache
    assert cache is not None
    return cache.mkdir("calendars")


@pytest.fixture(scope="session")
def shared_mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    """One for all tests that neither stop it nor read all it holds: databases are their own."""
    from tests.servers import mongod

    yield from mongod(tmp_path_factory, engine_used)


@pytest.fixture(scope="session")
def prepared(
    shared_mongod: LocalMongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prepared]:
    """Gives out stores that are up to date and empty, without migrating each anew."""
    from tests.prepared import Databases, Prepared

    databases = Databases(shared_mongod.uri)
    folder = tmp_path_factory.getbasetemp()
    run = folder if "PYTEST_XDIST_WORKER" not in os.environ else folder.parent
    yield Prepared(run / "prepared", databases)
    databases.close()


@pytest.fixture
def fresh_settings(
    prepared: Prepared, tmp_path: Path, engine_used: Callable[[str], None]
) -> Iterator[StorageSettings]:
    """Of embedded stores of this test alone, up to date and empty, below its folder."""
    for engine in ("chDB", "SQLite"):
        engine_used(engine)
    with prepared.stores(tmp_path) as settings:
        yield settings


@pytest.fixture(scope="module")
def emptied_stores(
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Emptied]:
    for engine in ("chDB", "SQLite"):
        engine_used(engine)
    with prepared.emptied(tmp_path_factory.mktemp("emptied")) as stores:
        yield stores


@pytest.fixture
def emptied_settings(emptied_stores: Emptied) -> StorageSettings:
    """As `fresh_settings`, where no other process opens the stores: a file's engine goes on."""
    return emptied_stores.settings()


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist hands its part to the process that reports.
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        used: set[str] = session.config.stash[_ENGINES]
        output["engines"] = sorted(used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    engines: set[str] = node.config.stash[_ENGINES]
    engines.update(getattr(node, "workeroutput", {}).get("engines", ()))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    used: set[str] = config.stash[_ENGINES]
    terminalreporter.write_line(f"real engines used: {', '.join(sorted(used)) or 'none'}")
    terminalreporter.write_line(f"temporary folders in: {tempfile.gettempdir()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[_THREADS_BEFORE] = set(threading.enumerate())
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """A test whose fixtures are all its own must not leave a thread that keeps a process alive."""
    result = yield
    if not _shares_fixtures(item):
        left = _threads_left(item.stash[_THREADS_BEFORE])
        if left:
            pytest.fail(f"left running: {', '.join(sorted(left))}", pytrace=False)
    return result


def _shares_fixtures(item: pytest.Item) -> bool:
    # Fixtures of plugins have an empty base id and keep no threads of ours.
    found = getattr(item, "_fixtureinfo", None)
    definitions = found.name2fixturedefs.values() if found is not None else ()
    shares = any(d[-1].scope != "function" and d[-1].baseid for d in definitions)
    # The contract of models takes its storage from the plugin, whose stores serve all tests.
    return shares or "any_storage" in item.fixturenames  # type: ignore[attr-defined]


def _threads_left(before: set[threading.Thread]) -> list[str]:
    give_up = time.monotonic() + _SECONDS_FOR_THREADS_TO_END
    while True:
        left = [t.name for t in threading.enumerate() if not t.daemon and t not in before]
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.01)
