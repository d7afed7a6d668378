"""Who has a folder, how others find him, and what they are told when they cannot."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jts_storage import DomainEvent, Storage, StorageSettings
from jts_storage.errors import FolderInUse, InvalidConfiguration, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.sharing.backend import SharedBackend, is_shareable
from jts_storage.sharing.connection import NobodyServes, SharedConnection
from jts_storage.sharing.folder import SharedFolder, is_served
from jts_storage.sharing.server import FolderServer
from jts_storage.testing.factories import make_formula
from tests import forked
from tests.prepared import Prepared
from tests.remote.others import Other, other


@pytest.fixture
def folder(tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]) -> Path:
    engine_used("chDB")
    engine_used("SQLite")
    prepared.copy(tmp_path / "data")
    (tmp_path / "data").chmod(0o700)
    return tmp_path / "data"


def opened(folder: Path, **more: Any) -> Storage:
    return Storage.open(StorageSettings(data_dir=folder, **more))


def backend_of(storage: Storage) -> SharedBackend:
    backend = storage._backend
    assert isinstance(backend, SharedBackend)
    return backend


def modes_of(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.glob("serve.*")}


# ---- files and locks, without stores


def test_one_has_the_folder_until_he_gives_it_back(tmp_path: Path) -> None:
    first, second = SharedFolder(tmp_path / "a"), SharedFolder(tmp_path / "a")
    assert not second.is_held()
    assert first.take("stores")
    assert not second.take("stores")
    assert second.is_held()
    assert second.is_ours
    first.give_back()
    assert not second.is_held()
    assert second.take("stores")
    second.give_back()
    assert not is_served(tmp_path / "a")


def test_what_is_written_is_for_the_owner_alone(tmp_path: Path) -> None:
    folder = SharedFolder(tmp_path / "a")
    folder.take("stores")
    folder.tell("unix:/nowhere", "a-token", "stores")
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.path.iterdir()}
    assert modes == dict.fromkeys(["serve.lock", "serve.json", "serve.token"], 0o600)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert "a-token" not in (folder.path / "serve.json").read_text()
    folder.give_back()
    assert {each.name for each in folder.path.iterdir()} == {"serve.lock"}


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_that_others_may_read_is_not_served(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    with pytest.raises(InvalidConfiguration, match="chmod 700"):
        SharedFolder(tmp_path / "a").take("stores")


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from jts_storage.sharing.folder import SharedFolder
folder = SharedFolder(Path({str(tmp_path / "a")!r}))
assert folder.take("stores")
folder.tell("unix:/nowhere", "token", "stores")
folder.stand_by()
os.kill(os.getpid(), signal.SIGKILL)
"""
    forked.run(["-c", code])
    folder = SharedFolder(tmp_path / "a")
    assert folder.serving() is not None
    assert not folder.is_held()
    assert not folder.has_heirs()
    assert folder.take("stores")
    folder.give_back()


def test_a_fork_does_not_keep_the_folder(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from jts_storage.sharing.folder import SharedFolder
folder = SharedFolder(Path({str(tmp_path / "a")!r}))
assert folder.take("stores")
if os.fork() == 0:
    assert not folder.is_ours
    folder.give_back()  # as its end would: it is the parent's, which holds it on
    sys.stdin.read()
    os._exit(0)
print(SharedFolder(folder.path).is_held(), flush=True)
os._exit(0)
"""
    process = forked.Process(["-c", code], stdin=forked.PIPE, stdout=forked.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    process.wait(30)
    assert not SharedFolder(tmp_path / "a").is_held()  # the child lives on
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("name", ["x" * 120, "with space", "per%41cent"])
def test_a_path_that_is_no_address_gets_a_socket_elsewhere(tmp_path: Path, name: str) -> None:
    folder = SharedFolder(tmp_path / name)
    folder.take("stores")
    socket = folder.socket()
    assert len(os.fsencode(socket)) <= 100
    assert socket.parent != folder.path
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    folder.tell(f"unix:{socket}", "token", "stores")
    folder.give_back()
    assert not socket.parent.exists()


@pytest.mark.parametrize("name", ["jts-data", "x" * 120])
def test_a_copy_takes_nothing_from_the_original(tmp_path: Path, name: str) -> None:
    """What serves the original is named in the copy of its files."""
    original = SharedFolder(tmp_path / name)
    original.take("stores")
    socket = original.socket()
    socket.touch()
    original.tell(f"unix:{socket}", "token", "stores")
    shutil.copytree(original.path, tmp_path / "copy")
    copy = SharedFolder(tmp_path / "copy")
    assert copy.take("copied stores")
    copy.give_back()
    assert socket.exists()
    assert original.token() == "token"
    original.give_back()


def test_a_folder_of_any_name_is_never_deleted(tmp_path: Path) -> None:
    """Its socket was named by one path, and it is opened by another."""
    folder = SharedFolder(tmp_path / "jts-data")
    folder.take("stores")
    folder.socket().touch()
    folder.tell(f"unix:{folder.socket()}", "token", "stores")
    shutil.copy(folder.path / "serve.json", tmp_path)
    folder.give_back()
    shutil.copy(tmp_path / "serve.json", folder.path)  # as if it had been killed
    (folder.path / "data").touch()
    (tmp_path / "link").symlink_to(folder.path)
    again = SharedFolder(tmp_path / "link")
    assert again.take("stores")
    again.give_back()
    assert {each.name for each in folder.path.iterdir()} == {"data", "serve.lock"}


def test_a_folder_that_is_renamed_in_use_leaves_the_next_one_alone(tmp_path: Path) -> None:
    renamed, other = SharedFolder(tmp_path / "a"), SharedFolder(tmp_path / "a")
    renamed.take("stores")
    renamed.path.rename(tmp_path / "b")
    (tmp_path / "a").mkdir(mode=0o700)
    code = f"""
from pathlib import Path
from jts_storage.sharing.folder import SharedFolder
folder = SharedFolder(Path({str(other.path)!r}))
assert folder.take("stores")
folder.tell("unix:/nowhere", "token", "stores")
"""
    forked.run(["-c", code])
    renamed.give_back()
    assert other.token() == "token"


@pytest.mark.parametrize("name", ["serve.json.new", "serve.token.new"])
async def test_a_disk_that_was_full_at_a_takeover_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither the lock of the folder stays, nor a gateway that nobody knows of."""
    backend = InMemoryBackend()
    open_file = os.open

    def is_full(path: Any, *given: Any, **named: Any) -> int:
        if is_so and Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return open_file(path, *given, **named)

    async def served() -> None:
        assert folder.take("stores")
        server = FolderServer(backend, folder, "stores")
        try:
            await server.start()
        except InvalidConfiguration:
            folder.give_back()
            raise
        await server.stop()
        folder.give_back()

    monkeypatch.setattr(os, "open", is_full)
    folder, is_so = SharedFolder(tmp_path / "data"), True
    async with Storage(backend):
        for _ in range(2):
            with pytest.raises(InvalidConfiguration, match=r"cannot be written.*No space left"):
                await served()
            assert not folder.is_held()
        is_so = False
        await served()
    assert not list(folder.path.glob("*.sock"))


def test_what_is_on_servers_is_not_shared(tmp_path: Path) -> None:
    assert is_shareable(StorageSettings(data_dir=tmp_path))
    assert not is_shareable(StorageSettings(url="grpc://127.0.0.1:1", data_dir=tmp_path))
    assert not is_shareable(StorageSettings(clickhouse_url="clickhouse://h", data_dir=tmp_path))


async def test_nobody_serves_is_told_at_once(tmp_path: Path) -> None:
    folder = SharedFolder(tmp_path / "a")
    folder.take("stores")
    folder.tell("unix:/nowhere/serve.sock", "token", "stores")
    state = (folder.path / "serve.json").read_text()
    folder.give_back()
    (folder.path / "serve.json").write_text(state)  # as a process leaves it that was killed
    (folder.path / "serve.token").write_text("token")
    connection = SharedConnection(folder, "stores", waits_for_heirs=True)
    async with asyncio.timeout(10):
        with pytest.raises(NobodyServes):
            await connection.open()
    await connection.close()


# ---- processes with stores


async def test_a_folder_that_is_served_is_reached_without_being_told(folder: Path) -> None:
    async with other(folder), opened(folder) as storage:
        assert backend_of(storage).is_remote
        assert all((await storage.health()).values())
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.commit()
        assert len(await storage.formulas.list()) == 1
        for name in ("clickhouse", "mongo", "database"):
            with pytest.raises(StorageError, match="remote"):
                getattr(storage, name)
        assert {name: mode for name, mode in modes_of(folder).items() if mode != 0o600} == {}
        assert "serve.sock" in modes_of(folder)


async def test_without_sharing_a_second_process_is_refused_and_told_how(folder: Path) -> None:
    async with other(folder, "alone") as first:
        for more in ({}, {"share": True}):
            with pytest.raises(FolderInUse, match=f"process {first.process.pid}") as caught:
                await opened(folder, **more).open_stores()
            assert "share=True" in str(caught.value)
            assert "jts-storage serve" in str(caught.value)
        assert not SharedFolder(folder).is_held()
        await first.end()
    async with opened(folder, share=True) as storage:
        assert not backend_of(storage).is_remote


async def test_who_names_other_stores_is_not_led_to_these(folder: Path) -> None:
    async with other(folder):
        with pytest.raises(InvalidConfiguration, match="other stores"):
            await opened(folder, database_url="sqlite:///elsewhere.db").open_stores()


async def test_the_next_takes_over_when_the_first_closes(folder: Path) -> None:
    async with other(folder) as first, opened(folder, share=True) as storage:
        formulas = storage.formulas
        assert backend_of(storage).is_remote
        closing = asyncio.create_task(first.end())
        while backend_of(storage).is_remote:
            assert await formulas.list() == []
        await closing
        assert await formulas.list() == []  # what was had before goes on, too
        assert await storage.formulas.list() == []
        async with other(folder, "alone"):
            pass
        assert storage.mongo is not None
    assert not is_served(folder)


async def test_a_unit_of_work_is_repeated_at_the_next_one(folder: Path) -> None:
    async with other(folder) as first, opened(folder, share=True) as storage:
        calls = 0

        async def work(uow: Any) -> None:
            nonlocal calls
            calls += 1
            await uow.formulas.save(make_formula(name=f"formula {calls}"))
            if calls == 1:
                first.kill()

        await storage.run(work)
        assert calls == 2
        assert [each.name for each in await storage.formulas.list()] == ["formula 2"]


@dataclass(frozen=True, kw_only=True)
class Counted(DomainEvent):
    """What is told before the folder is taken over, and after."""

    number: int


async def test_handlers_hear_before_a_takeover_and_after(folder: Path) -> None:
    heard: list[int] = []
    heard_all = asyncio.Event()

    def note(event: Counted) -> None:
        heard.append(event.number)
        if len(heard) == 3:
            heard_all.set()

    async with other(folder) as first, opened(folder, share=True) as storage:
        storage.events.register_handler(Counted, note)
        for number in range(3):

            async def work(uow: Any, number: int = number) -> None:
                uow.events.add(Counted(number=number))

            await storage.run(work)
            if number == 0:
                first.kill()
        async with asyncio.timeout(30):
            await heard_all.wait()
        assert not backend_of(storage).is_remote
        assert heard == [0, 1, 2]


@pytest.mark.parametrize("share", [False, True])
async def test_handlers_of_what_waited_may_use_the_storage(folder: Path, share: bool) -> None:
    async with opened(folder) as before, before.unit_of_work() as uow:
        await uow.formulas.save(make_formula("read by a handler"))
        uow.events.add(Counted(number=0))
        await uow.commit()
    storage = opened(folder, share=share)
    called, heard = 0, asyncio.Event()

    async def read(_: Counted) -> None:
        nonlocal called
        called += 1
        await storage.formulas.list()
        heard.set()

    storage.events.register_handler(Counted, read)
    async with storage, asyncio.timeout(20):
        await heard.wait()
    assert called == 1, "it was called before the storage was open"


async def test_a_client_that_does_not_share_waits_for_an_heir(folder: Path) -> None:
    async with (
        other(folder) as first,
        opened(folder, share=True) as heir,
        opened(folder) as storage,
    ):
        first.kill()
        assert await storage.formulas.list() == []
        assert not backend_of(heir).is_remote
        assert backend_of(storage).is_remote or SharedFolder(folder).is_ours


async def test_two_of_one_process_share_its_stores(folder: Path) -> None:
    async with (
        opened(folder, share=True) as first,
        opened(folder) as second,
        opened(folder, share=True) as third,
    ):
        assert not backend_of(second).is_remote
        await first.close()
        async with other(folder, "alone"):  # waits until the third serves it
            backend_of(third).check_serves()


@pytest.mark.parametrize("how", [("share", "share"), ("share", "alone")])
async def test_two_that_open_at_the_same_moment(folder: Path, how: tuple[str, str]) -> None:
    found = [Other(folder, each) for each in how]
    try:
        said = await asyncio.gather(*(each.said() for each in found))
        served = [state for state in said if state]
        assert served.count("open direct") == 1
        if how == ("share", "share"):
            assert sorted(said) == ["open direct", "open remote"]
    finally:
        for each in found:
            each.kill()


async def test_a_long_path_is_served_all_the_same(
    tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]
) -> None:
    engine_used("chDB")
    folder = tmp_path / ("x" * 120)
    prepared.copy(folder)
    folder.chmod(0o700)
    async with other(folder) as first:
        told = json.loads((folder / "serve.json").read_text())
        socket = Path(told["address"].removeprefix("unix:"))
        assert socket.parent != folder
        async with opened(folder) as storage:
            assert backend_of(storage).is_remote
        await first.end()
    assert not socket.parent.exists()


def test_a_folder_that_nobody_serves_opens_without_grpc(folder: Path) -> None:
    code = """
import asyncio, sys
from jts_storage import DomainEvent, Storage, StorageSettings

async def main():
    async with Storage.open(StorageSettings(data_dir=sys.argv[1])) as storage:
        await storage.symbols.list()
    print(any(name.partition(".")[0] == "grpc" for name in sys.modules))

asyncio.run(main())
"""
    assert forked.run(["-c", code, folder], check=True).stdout == "False\n"
