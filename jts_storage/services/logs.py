"""What services wrote: to their standard streams, or to a log of their own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.services.compose import Compose
from jts_storage.services.state import Plan, StateFolder

_FILES: Final = ("mongod.log", "server.log")
_PAUSE: Final = 0.3


def last_lines(
    plan: Plan, folder: StateFolder, names: Sequence[str], lines: int
) -> dict[str, list[str]]:
    """The last lines of each service."""
    if plan.engine == "docker":
        compose = Compose(Path(plan.compose_file))
        return {name: _printed(compose.logs_command([name], lines, follow=False)) for name in names}
    return {name: _tail(folder.path / name, lines) for name in names}


def followed(
    plan: Plan,
    folder: StateFolder,
    names: Sequence[str],
    lines: int,
    tell: Callable[[str, str], None],
) -> None:
    """Tell the last lines, and each that comes, until Ctrl-C.

    :param tell: called with the name of the service and its line.
    """
    if plan.engine == "docker":
        command = Compose(Path(plan.compose_file)).logs_command(names, lines, follow=True)
        with suppress(KeyboardInterrupt):
            _tell_printed(command, names, tell)
        return
    read = [_Followed(file) for name in names for file in _files(folder.path / name)]
    for name, text in last_lines(plan, folder, names, lines).items():
        for line in text:
            tell(name, line)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(_PAUSE)
            for each in read:
                for line in each.new_lines():
                    tell(each.service, line)


def _tell_printed(
    command: Sequence[str], names: Sequence[str], tell: Callable[[str, str], None]
) -> None:
    with _docker_there():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                container, is_told, text = line.rstrip("\n").partition("| ")
                # Compose names the container: the service, and which of its containers it is.
                container = container.strip()
                service = container if container in names else container.rpartition("-")[0]
                if is_told and service in names:
                    tell(service, text)
                else:
                    tell("docker", line.rstrip("\n"))
        finally:
            process.terminate()  # it would go on while the services are silent


class _Followed:
    """A log that is read as it grows, over each time that it begins anew."""

    def __init__(self, file: Path) -> None:
        self.service = file.parent.name
        self._file = file
        self._place = file.stat().st_size if file.exists() else 0
        self._before = _inode(_before(file, 1))

    def new_lines(self) -> Iterator[str]:
        """The whole lines that came since the last look."""
        before = _inode(_before(self._file, 1))
        if before != self._before:
            # It is `.1` now. Another one has come and gone where that is not what follows the `.1`
            # of the last look.
            is_one = _inode(_before(self._file, 2)) == self._before
            for number in (1,) if is_one else (2, 1):
                yield from self._rest_of(_before(self._file, number), is_whole=True)
                self._place = 0
            self._before = before
        with suppress(OSError):  # between two starts there is none
            if self._file.stat().st_size < self._place:  # emptied: there was no room to keep it
                self._place = 0
        yield from self._rest_of(self._file)

    def _rest_of(self, file: Path, *, is_whole: bool = False) -> Iterator[str]:
        """:param is_whole: nothing more comes, so that its last line is one without an end, too."""
        try:
            with file.open("rb") as opened:
                opened.seek(self._place)
                found = opened.read()
        except FileNotFoundError:
            return
        whole = found if is_whole else found[: found.rfind(b"\n") + 1]
        self._place += len(whole)
        yield from whole.decode(errors="replace").splitlines()


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except OSError:
        return None


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in _FILES if name != "mongod.log" or folder.name == "mongodb"]


def _before(file: Path, number: int) -> Path:
    """What it was before it was begun anew so many times."""
    return file.with_name(f"{file.name}.{number}")


def _tail(folder: Path, lines: int) -> list[str]:
    main, *others = _files(folder)
    found = _lines(main)
    if len(found) < lines:
        found = _lines(_before(main, 1)) + found
    for file in others:  # a few lines of what happened to the server as a whole
        found += _lines(file)
    return found[-lines:]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _printed(command: Sequence[str]) -> list[str]:
    with _docker_there():
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    if done.returncode:
        raise ConnectionFailed(f"docker gives no logs: {done.stderr.strip()[-300:]}")
    return [line.partition("| ")[2] or line for line in done.stdout.splitlines()]


@contextmanager
def _docker_there() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise InvalidConfiguration(f"docker could not be run: {exc}") from exc
