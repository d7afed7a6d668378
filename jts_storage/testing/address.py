"""Where a store of the tests listens, for code that goes there itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jts_storage.errors import InvalidConfiguration
from jts_storage.testing.faults import Faults


def _none_open() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Address:
    """A store as a client's settings want it. It is as clean as the test's storage.

    :param url: with everything in it; ``JTS_*_URL`` takes it as it is.
    """

    url: str = field(repr=False)
    host: str
    port: int
    database: str
    user: str = ""
    password: str = field(default="", repr=False)
    _faults: Faults | None = field(default=None, repr=False)
    _open_connections: Callable[[], int] = field(default=_none_open, repr=False)

    @property
    def faults(self) -> Faults:
        """What the store does to its clients until `clear()`; the end of the test clears it.

        :raises InvalidConfiguration: the store is on another machine, where faults are not ours
            to make.
        """
        if self._faults is None:
            raise InvalidConfiguration(
                f"faults were asked of {self.host}:{self.port}, which is not on this machine",
                remedy="Choose another backend: --jts-backend=embedded, servers or containers.",
            )
        return self._faults

    @property
    def can_fail(self) -> bool:
        """Whether `faults` are there."""
        return self._faults is not None

    @property
    def open_connections(self) -> int:
        """How many connections clients hold at this moment; 0 where they are not counted."""
        return self._open_connections()
