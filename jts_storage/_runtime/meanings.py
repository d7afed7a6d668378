"""Map what drivers and servers report to errors of the kit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jts_storage.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    InvalidData,
    StorageError,
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code of a driver or a server means to us.

    :param kind: the error that leaves the kit.
    :param remedy: what the reader can do.
    :param repeatable: the same call may well succeed in a moment, so it is worth repeating.
    """

    kind: type[StorageError] = StorageError
    remedy: str | None = None
    repeatable: bool = False

    def error(
        self,
        text: str,
        *,
        store: str,
        doing: str,
        hosts: Sequence[str] = (),
        code: int | str | None = None,
    ) -> StorageError:
        """The error to raise.

        :param text: what was reported, as a sentence.
        :param store: as a sentence begins: ``"ClickHouse"``.
        :param doing: what was tried, such as ``"reading candles"``.
        """
        made = self._made(text, store, doing, hosts, code)
        made.repeatable = self.repeatable
        return made

    def _made(
        self, text: str, store: str, doing: str, hosts: Sequence[str], code: int | str | None
    ) -> StorageError:
        if self.kind is ConnectionFailed:
            tried = ", ".join(hosts) or "no host"
            return ConnectionFailed(
                f"{store} connection failed at {doing} (tried {tried}): {text}",
                hosts=hosts,
                remedy=self.remedy,
                code=code,
            )
        if self.kind is InvalidConfiguration:
            where = f"(at {doing}, code {code})"
            return InvalidConfiguration(f"{text.rstrip('.')} {where}", remedy=self.remedy)
        if self.kind is InvalidData:
            refused = InvalidData(f"{store} refused {doing}: {text}", remedy=self.remedy)
            refused.code = code
            return refused
        numbered = "" if code is None else f" (code {code})"
        message = f"{store} refused {doing}{numbered}: {text}"
        return self.kind(message, remedy=self.remedy, code=code)


UNKNOWN = Meaning()
