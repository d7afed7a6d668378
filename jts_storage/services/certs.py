"""A certificate authority for development, and certificates of it for servers and clients.

A folder has `authority/ca.pem`, `server/server.pem` and `client/client.pem`, each with its `.key`,
and `ca.pem` again beside the latter two. Who trusts it trusts all of them, also those that are made
later: the authority stays when they are renewed. So does each key, so that a renewal is one file
that takes the place of another: whoever reads a certificate and its key meanwhile, in any order,
has two that go together.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from jts_storage.errors import InvalidConfiguration

if TYPE_CHECKING:
    from jts_storage.services.x509 import Authority, Issued

DAYS: Final = 90
RENEW_WITHIN: Final = 30
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_LOCK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a folder, and what was done to it.

    :param state: ``made``, ``renewed`` or ``kept``.
    :param why: why it was renewed; empty otherwise.
    :param names: host names and addresses that it is good for; only a server's has some.
    """

    name: str
    state: str
    file: Path
    key_file: Path
    expires_at: datetime
    names: tuple[str, ...] = ()
    why: str = ""


def make_certificates(
    folder: Path,
    names: Sequence[str] = (),
    *,
    days: int = DAYS,
    within: int = RENEW_WITHIN,
    renew: bool = False,
) -> list[Certificate]:
    """Make what is missing in a folder, and renew what ends soon or is of no use any more.

    What is renewed keeps its key; one whose key is missing or another's gets a new one.

    :param names: of the server, beside those of this machine; if none are given, it keeps those
        that its certificate has.
    :param days: how long new certificates are good for; a new authority is for ten years.
    :param within: renew those that end within so many days.
    :param renew: renew them all, for the keys that they have. The authority is never renewed.
    :raises InvalidConfiguration: `cryptography` is not installed, a name is none, or the folder or
        the authority in it is not fit; no certificate has been changed then.
    """
    if find_spec("cryptography") is None:
        raise InvalidConfiguration(
            "cryptography is needed to make certificates, and is not installed",
            remedy="Run pip install 'jts-storage[backup]'.",
        )
    if not 0 <= within < days:
        raise InvalidConfiguration(
            f"certificates for {days} days would be renewed {within} days before they end",
            remedy="Let them be good for longer than that.",
        )
    from jts_storage.services.x509 import authority_of, host

    wanted = tuple(dict.fromkeys((*LOCAL_NAMES, *(host(name) for name in names))))
    with _locked(folder):
        authority, is_new = authority_of(folder)
        until = _end(authority.issued, days)
        authority.publish()
        told = [_told(authority.issued, "made" if is_new else "kept")]
        for name in ("server", "client"):
            found = authority.found(name)
            asked = _names(name, wanted, authority.names_of(name), are_given=bool(names))
            why = "it was asked for" if renew else _fault(authority, found, asked, within)
            if found is None:
                told.append(_told(authority.issue(name, asked, until), "made"))
            elif why:
                key = found.key if found.is_of_its_key else None
                told.append(_told(authority.issue(name, asked, until, key), "renewed", why))
            else:
                told.append(_told(found, "kept"))
    return told


def _names(
    name: str, wanted: tuple[str, ...], before: tuple[str, ...], *, are_given: bool
) -> tuple[str, ...]:
    if name == "client":
        return ()
    return wanted if are_given or not before else before


def _fault(authority: Authority, found: Issued | None, names: tuple[str, ...], within: int) -> str:
    """Why a certificate is of no use any more; empty if it is, or if there is none."""
    if found is None:
        return ""
    if not authority.has_issued(found):
        return "it is not of this authority"
    if not found.is_of_its_key:
        return "its key is another's"
    if set(found.names) != set(names):
        return "its names have changed"
    if found.expires_at <= datetime.now(UTC) + timedelta(days=within):
        return f"it ends on {found.expires_at:%Y-%m-%d}"
    return ""


def _end(authority: Issued, days: int) -> datetime:
    """When new certificates end: no later than their authority, which must last for a day."""
    now = datetime.now(UTC)
    if authority.expires_at <= now + timedelta(days=1):
        raise InvalidConfiguration(
            f"the authority {authority.file} ends on {authority.expires_at:%Y-%m-%d}",
            remedy=f"Remove {authority.file.parent}, run this again, and give the new ca.pem to"
            " clients.",
        )
    return min(now + timedelta(days=days), authority.expires_at)


def _told(issued: Issued, state: str, why: str = "") -> Certificate:
    return Certificate(
        issued.name, state, issued.file, issued.key_file, issued.expires_at, issued.names, why
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, which is made if need be, for this process alone.

    :raises InvalidConfiguration: others can write to it, or another process has it.
    """
    try:
        for each in reversed((folder, *folder.parents)):
            if not each.exists():  # .jts, too, which is not served if others can read it
                each.mkdir(mode=0o700, exist_ok=True)
        if not folder.is_dir():
            raise NotADirectoryError
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidConfiguration(
            f"{folder} is no folder", remedy="Name another by --folder."
        ) from exc
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidConfiguration(
            f"others can write to {folder}, and exchange the keys in it",
            remedy=f"Run chmod 700 {folder}, or name another by --folder.",
        )
    lock = FileLock(folder / ".lock", timeout=_LOCK_SECONDS, mode=0o600)
    try:
        lock.acquire()
    except Timeout as exc:
        raise InvalidConfiguration(
            f"another process is making certificates in {folder}",
            remedy="Wait for it, and try again.",
        ) from exc
    try:
        yield
    finally:
        lock.release()
