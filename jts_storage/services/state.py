"""The folder of a stack: who supervises it, what was started, how it is, what is asked of it.

`supervisor.lock` is held by the process that supervises; the kernel releases it when that process
dies, even by kill -9. `plan.json` says what was started and how, `state.json` how it was found when
it was last looked at, and `requests` is where other processes ask the supervisor for something.
The files are believed only as far as the lock says.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from jts_storage._runtime.processes import may_be_alive, this_process
from jts_storage.errors import ConnectionFailed, InUse, InvalidConfiguration, StorageError
from jts_storage.local_servers.locks import is_held, try_lock, unlock
from jts_storage.services.status import ServiceStatus

_PAUSE: Final = 0.05
_LOOK_SECONDS: Final = 1.0
_STALE_SECONDS: Final = 15.0
"""A look takes six seconds at most, and a process that supervises looks all the time."""


Engine = Literal["local", "docker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was started, and how.

    :param supervisor: the process, by its id and its start.
    :param lasting: whether the services live on when that process dies.
    """

    engine: Engine
    names: Sequence[str]
    ports: Mapping[str, int] = field(default_factory=dict)
    lasting: bool = False
    restart_unhealthy: bool = False
    compose_file: str = ""
    supervisor: str = field(default_factory=this_process)


def make_folder(path: Path) -> None:
    """Make the folder of a stack, for its owner alone; but as root PostgreSQL runs as another user,
    who must go through it.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)


class StateFolder:
    """One process's view of the folder of a stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "supervisor.log"

    # ---- who supervises

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Be the one that supervises, in the block.

        :raises InUse: another process does.
        :raises InvalidConfiguration: the folder cannot be written.
        """
        lock = self._open_lock()
        earlier = list(self._requests.glob("*.json"))
        deadline = time.monotonic() + _LOOK_SECONDS
        while not try_lock(lock):  # somebody may only be looking
            if time.monotonic() > deadline:
                os.close(lock)
                raise self.in_use()
            time.sleep(_PAUSE)
        try:
            # Who asks from now on asks this process; those before asked one that is gone.
            self._forget(earlier)
            yield
        finally:
            with suppress(OSError):
                self._forget(self._requests.glob("*.json"))
            unlock(lock)

    def is_supervised(self) -> bool:
        """Whether a process supervises now."""
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return is_held(lock)
        finally:
            unlock(lock)

    def supervisor(self) -> int | None:
        """The id of the process that supervises."""
        plan = self.plan()
        if plan is None or not self.is_supervised() or not may_be_alive(plan.supervisor):
            return None
        return int(plan.supervisor.rsplit("/", 2)[1])

    def in_use(self) -> InUse:
        pid = self.supervisor()
        who = "Another process" if pid is None else f"Process {pid}"
        return InUse(
            f"{who} supervises the stack in {self.path}.",
            remedy="`jts-storage services status` shows it, `jts-storage services down` stops it.",
        )

    # ---- what is told

    def write_plan(self, plan: Plan) -> None:
        self._write("plan.json", asdict(plan))

    @contextmanager
    def planned(self, plan: Plan) -> Iterator[None]:
        """Note what is started in the block; if nothing could be, what was noted before stays.

        A failure that nobody foresaw may leave something running, which `down` has to find.
        """
        before = self._read("plan.json")
        self.write_plan(plan)
        try:
            yield
        except StorageError:
            if before is None:
                (self.path / "plan.json").unlink(missing_ok=True)
            else:
                self._write("plan.json", before)
            raise

    def plan(self) -> Plan | None:
        """What was last started here; None if nothing was, or nobody can read what.

        :raises InvalidConfiguration: it is not for this user.
        """
        try:
            told = self._read("plan.json")
            return None if told is None else Plan(**told)
        except TypeError:
            return None

    def has_plan(self) -> bool:
        """Whether something was started here, whether or not `plan` can read what."""
        return (self.path / "plan.json").exists()

    def write_state(self, statuses: Sequence[ServiceStatus]) -> None:
        self._write("state.json", [asdict(each) for each in statuses])

    def state(self) -> list[ServiceStatus] | None:
        """How the services were when the process that supervises last looked; None if none does,
        or it has not looked for long, as when it is paused.
        """
        if not self.is_supervised():
            return None
        try:
            age = time.time() - (self.path / "state.json").stat().st_mtime
            told = self._read("state.json") if abs(age) < _STALE_SECONDS else None
            return None if told is None else [ServiceStatus(**each) for each in told]
        except (OSError, TypeError, ValueError):
            return None

    def forget_state(self) -> None:
        (self.path / "state.json").unlink(missing_ok=True)

    # ---- what is asked

    def ask(self, what: str, names: Sequence[str] = (), *, timeout: float) -> list[ServiceStatus]:
        """Ask the process that supervises, and wait for its answer.

        :raises ConnectionFailed: it says why it could not, or it is gone, or takes too long.
        """
        identity = uuid4().hex
        self._requests.mkdir(exist_ok=True, mode=0o700)
        self._write(f"requests/{identity}.json", {"do": what, "names": list(names)})
        answer = f"requests/{identity}.answer"
        deadline = time.monotonic() + timeout
        while (told := self._read(answer)) is None:
            if time.monotonic() > deadline or not self.is_supervised():
                told = self._read(answer)
                break
            time.sleep(_PAUSE)
        # Nobody is to do later what nobody waits for any more.
        self._forget([self.path / answer, self.path / f"requests/{identity}.json"])
        if told is None:
            raise self._no_answer(what)
        if "error" in told:
            raise ConnectionFailed(str(told["error"]))
        return [ServiceStatus(**each) for each in told["services"]]

    def _no_answer(self, what: str) -> ConnectionFailed:
        pid = self.supervisor()
        end = "" if pid is None else f"; if process {pid} hangs, end it with kill -9"
        return ConnectionFailed(
            f"The supervisor of {self.path} gave no answer to {what}.",
            remedy=f"Look at {self.log}{end}, then repeat it.",
        )

    def requests(self) -> Iterator[tuple[str, str, list[str]]]:
        """What others ask: the identity of each question, what is to be done, with which."""
        for file in sorted(self._requests.glob("*.json")):
            told = self._read(f"requests/{file.name}")
            self._forget([file])
            if isinstance(told, dict) and isinstance(names := told.get("names", []), list):
                yield file.stem, str(told.get("do")), [str(each) for each in names]

    def answer(
        self, identity: str, statuses: Sequence[ServiceStatus] = (), *, error: str = ""
    ) -> None:
        told = {"error": error} if error else {"services": [asdict(each) for each in statuses]}
        self._write(f"requests/{identity}.answer", told)

    @staticmethod
    def _forget(requests: Iterable[Path]) -> None:
        for file in requests:
            with suppress(OSError):
                file.unlink(missing_ok=True)

    # ---- files

    @property
    def _lock(self) -> Path:
        return self.path / "supervisor.lock"

    @property
    def _requests(self) -> Path:
        return self.path / "requests"

    def _open_lock(self) -> int:
        try:
            make_folder(self.path)
            return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise InvalidConfiguration(
                f"{self.path} cannot hold a stack: {exc.strerror}",
                remedy="Name a folder that this user may write, with --folder.",
            ) from exc

    def _write(self, name: str, told: Any) -> None:
        file = self.path / name
        draft = file.with_name(f"{file.name}.{os.getpid()}.new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            json.dump(told, opened)
        draft.replace(file)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_bytes())
        except PermissionError as exc:
            raise InvalidConfiguration(
                f"{self.path / name} may not be read by this user",
                remedy="Run this as the user who started the stack.",
            ) from exc
        except (OSError, ValueError):
            return None
