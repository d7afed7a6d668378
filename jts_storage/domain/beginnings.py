"""Where the history of candles begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.moments import Commit
from jts_storage.errors import InUse, InvalidData, NotFound

_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Beginnings:
    """The first versions that can be read of what was purged.

    :param of_all: that of every series; 0 if all series were never purged together.
    :param of_series: that of each series that was purged by its key.
    """

    of_all: int = 0
    of_series: Mapping[SeriesKey, int] = field(default_factory=dict)

    def of(self, key: SeriesKey) -> int:
        return max(self.of_all, self.of_series.get(key, 0))

    def of_every(self, keys: Iterable[SeriesKey] | None) -> int:
        """The version before which none of these can be read any more; of all series if None."""
        return self.of_all if keys is None else min(map(self.of, keys), default=self.of_all)

    def later(self, keys: Iterable[SeriesKey] | None, version: int) -> Beginnings:
        """What a purge makes of it.

        :param keys: of what was purged; all series if None.
        """
        if keys is None:
            return Beginnings(max(self.of_all, version), self.of_series)
        of_series = {key: max(self.of_series.get(key, 0), version) for key in keys}
        return Beginnings(self.of_all, {**self.of_series, **of_series})

    def check(self, commit: Commit, is_wanted: Callable[[SeriesKey], bool]) -> None:
        """
        :param is_wanted: whether a series is part of what was asked.
        :raises InvalidData: what was asked was purged as of that commit.
        """
        if commit.version < self.of_all:
            raise purged(commit, self.of_all, "all candles")
        for key, began in self.of_series.items():
            if commit.version < began and is_wanted(key):
                raise purged(commit, began, str(key))


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back corrections of a series are told.

    :param purged: the first version as of which it can be read; 0 if it was never purged.
    :param kept: the first version since which all that was replaced is kept, whatever snapshots
        show of before; None if no history is kept.
    """

    purged: int = 0
    kept: int | None = 0

    @property
    def least(self) -> int:
        return max(self.purged, self.kept or 0)

    def check(self, asked: Commit, key: SeriesKey) -> None:
        """:raises InvalidData: not all that was corrected since then is known."""
        if self.kept is None or asked.version < self.kept:
            raise before_history(asked, self.kept)
        if asked.version < self.purged:
            raise purged(asked, self.purged, str(key))


def before_history(asked: Commit, began: int | None) -> InvalidData:
    since = "no history is kept" if began is None else f"it begins at {Commit(began).moment}"
    remedy = "Ask for a moment from then on."
    if began is None:
        remedy = "Set JTS_HISTORY=true: what is replaced from then on is kept."
    return InvalidData(
        f"is before the history: {since}",
        field="as_of",
        value=asked.moment.isoformat(),
        remedy=remedy,
    )


def purged(asked: Commit, began: int, what: str) -> InvalidData:
    return InvalidData(
        f"is before the history of {what}: it was purged, and begins at {Commit(began).moment}",
        field="as_of",
        value=asked.moment.isoformat(),
        remedy="Ask for a moment from then on, or name the other series with keys=.",
    )


def nothing_of(unknown: Sequence[SeriesKey]) -> NotFound:
    """The error for a purge of series that were never stored, as of a mistyped key."""
    return NotFound(
        f"Nothing was purged: there neither are nor were candles of {_listed(unknown)}.",
        remedy="A key has its exchange, too; candles.list_keys() names those that are stored.",
    )


def shown_by(snapshots: Sequence[str], before: Commit) -> InUse:
    """The error for a purge that would take from snapshots what they show."""
    return InUse(
        f"Nothing was purged: what was replaced before {before.moment} is shown by snapshots:"
        f" {_listed(list(map(repr, snapshots)))}.",
        remedy="Delete them with snapshots.delete(name), or purge with despite_snapshots=True:"
        " reads of them are then refused for what was purged.",
    )


def _listed(things: Sequence[object]) -> str:
    named = ", ".join(map(str, things[:_MOST_NAMES]))
    more = len(things) - _MOST_NAMES
    return f"{named} and {more} others" if more > 0 else named
