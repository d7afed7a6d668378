"""A replica set of three real mongods on loopback, whose members are killed and stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from jts_storage.local_servers.folder import ServerCommand, ServerFolder, free_port
from jts_storage.local_servers.mongod import find_mongod

HOST: Final = "127.0.0.1"
NAME: Final = "rs0"
ONE: Final = "one"
"""A write concern that the set defines and a single member meets: what no setting should name."""

_TAGS: Final = ("a", "b", "c")
_PATIENCE: Final = 60.0
_POLL: Final = 0.02


class Member:
    """One mongod of a set, with a folder and a port for all its starts."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder = ServerFolder(folder)
        self._binary = binary
        self.port = free_port()
        self._folder.join()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Start it; it may take no connections yet when this returns."""
        if self._folder.running() is None:
            self._folder.start(self._command())

    def kill(self) -> None:
        self._folder.kill(_PATIENCE)

    def close(self) -> None:
        """End it for good, and at once: in good order it would wait for the others."""
        self.go_on()
        self.kill()
        self._folder.leave(_PATIENCE)

    def stop(self) -> None:
        """Let it do nothing until `go_on`, as if nobody could reach it."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[MongoClient[dict[str, Any]]]:
        with MongoClient[dict[str, Any]](
            HOST,
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=500,
            connectTimeoutMS=500,
            socketTimeoutMS=1000,
        ) as client:
            yield client

    def asked(self, command: str) -> Mapping[str, Any]:
        """What it answers; nothing if it does not."""
        try:
            with self.client() as client:
                return client.admin.command(command)
        except PyMongoError:
            return {}

    def _signal(self, number: signal.Signals) -> None:
        if server := self._folder.running():
            os.kill(server.pid, number)

    def _command(self) -> ServerCommand:
        # As that of LocalMongod: small and quick to start.
        options = {
            "--dbpath": self._folder.subfolder("db"),
            "--bind_ip": HOST,
            "--port": self.port,
            "--logpath": self._folder.path / "mongod.log",
            "--replSet": NAME,
            "--oplogSize": 990,
            "--wiredTigerCacheSizeGB": 0.25,
            "--wiredTigerEngineConfigString": "log=(file_max=4MB,prealloc=false)",
            "--setParameter": "diagnosticDataCollectionEnabled=false",
        }
        flat = [str(part) for pair in options.items() for part in pair]
        arguments = [str(self._binary), "--quiet", "--nounixsocket", "--logappend", *flat]
        return ServerCommand(arguments=arguments, port=self.port)


class MongoSet:
    """Three members, one of which is primary when the block begins.

    :param election: after how many seconds without a sign of the primary the others elect one;
        MongoDB's own default is 10.
    """

    def __init__(self, folder: Path, *, election: float = 10.0) -> None:
        self._path = folder
        self._election = election
        self._stack = ExitStack()
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        binary = find_mongod()
        with ExitStack() as stack:
            for tag in _TAGS:
                member = Member(self._path / tag, binary)
                stack.callback(member.close)
                self.members.append(member)
                member.start()
            self._initiate()
            self.wait_until_whole()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={NAME}"

    def primary(self) -> Member:
        """The member that takes writes and that the others follow, waited for."""
        found: list[Member] = []

        def is_there() -> bool:
            found[:] = [m for m in self.members if m.asked("hello").get("isWritablePrimary")]
            return len(found) == 1

        wait_until(is_there, "the set has no primary")
        return found[0]

    def others(self, member: Member) -> list[Member]:
        return [each for each in self.members if each is not member]

    def wait_until_whole(self) -> None:
        """Until each member is primary or follows it."""
        wait_until(self._is_whole, "the set is not whole")

    def _is_whole(self) -> bool:
        states = [member.asked("hello") for member in self.members]
        primaries = [state.get("me") for state in states if state.get("isWritablePrimary")]
        return len(primaries) == 1 and all(
            state.get("primary") == primaries[0]
            and (state.get("isWritablePrimary") or state.get("secondary"))
            for state in states
        )

    def _initiate(self) -> None:
        wait_until(
            lambda: all(member.asked("ping") for member in self.members), "a member did not start"
        )
        members = [
            {"_id": number, "host": member.address, "tags": {"name": tag}}
            for number, (tag, member) in enumerate(zip(_TAGS, self.members, strict=True))
        ]
        settings = {
            "electionTimeoutMillis": round(self._election * 1000),
            "heartbeatIntervalMillis": min(2000, round(self._election * 250)),
            "getLastErrorModes": {ONE: {"name": 1}},
        }
        with self.members[0].client() as client:
            client.admin.command(
                "replSetInitiate", {"_id": NAME, "members": members, "settings": settings}
            )


def wait_until(holds: Callable[[], bool], otherwise: str, *, within: float = _PATIENCE) -> None:
    give_up = time.monotonic() + within
    while not holds():
        if time.monotonic() > give_up:
            raise AssertionError(f"{otherwise}, after {within:.0f} s")
        time.sleep(_POLL)
