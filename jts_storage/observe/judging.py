"""Which thresholds are crossed, and what of it is to be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from jts_storage.domain import checks
from jts_storage.errors import InvalidData
from jts_storage.observe.alerts import ALERTS, Alert, Notice
from jts_storage.observe.catalogue import Sample

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Telling:
    """How the handler takes what it is told.

    :ivar refused_since: when it first failed; None if it has not.
    :ivar again_at: when it is told again; None if it has been told.
    """

    refused_since: datetime | None = None
    again_at: datetime | None = None

    def refused(self, now: datetime, longest: timedelta) -> None:
        """Tell it at the next look, and then each time after as long as it has failed so far."""
        self.refused_since = self.refused_since or now
        self.again_at = now + min(longest, now - self.refused_since)


@dataclass(slots=True)
class _Crossed(_Telling):
    since: datetime = _LONG_AGO
    told_at: datetime | None = None
    told_before: datetime | None = None


@dataclass(slots=True, kw_only=True)
class _End(_Telling):
    notice: Notice


class Judge:
    """Tells each firing once, and again after `cooldown` while it lasts; its end once.

    One that is over and comes back is told at once: it is another incident. What nobody heard
    (`untold`) is told again.

    :raises InvalidData: two alerts have one name.
    """

    def __init__(self, alerts: Iterable[Alert] = ALERTS, *, cooldown: float = 300.0) -> None:
        self._alerts = tuple(checks.several(alerts, Alert, "alerts"))
        names = [each.name for each in self._alerts]
        for name in names:
            if names.count(name) > 1:
                # What was told is kept by name: the end of one would be taken for that of both.
                raise InvalidData(
                    "is the name of several alerts",
                    field="alerts",
                    value=name,
                    remedy="Give one another name: dataclasses.replace(alert, name=...).",
                )
        self._cooldown = timedelta(seconds=cooldown)
        self._crossed: dict[tuple[str, tuple[str, ...]], _Crossed] = {}
        self._ends: dict[tuple[str, tuple[str, ...]], _End] = {}
        self._before: dict[str, tuple[datetime, float]] = {}
        self._judged_at = _LONG_AGO

    def judge(self, now: datetime, samples: Iterable[Sample]) -> list[Notice]:
        """What is to be told of these samples, which were read now."""
        found, self._judged_at = list(samples), now
        self._ends = {kind: end for kind, end in self._ends.items() if end.again_at is not None}
        again = list(self._ends)
        notices = [notice for alert in self._alerts for notice in self._of(alert, now, found)]
        # One that has come back meanwhile is told anew, and its end is no news any more.
        ends = (self._ends[kind] for kind in again if kind in self._ends)
        return [*(notice for end in ends if (notice := _due(end, now))), *notices]

    def untold(self, notice: Notice) -> None:
        """What the last `judge` gave could not be told: give it again with the next one.

        While that goes on failing it is given less and less often, at the least once a `cooldown`.
        """
        kind = (notice.alert.name, tuple(value for _, value in notice.labels))
        if notice.is_over:
            telling: _Telling | None = self._ends.get(kind)
        else:
            telling = crossed = self._crossed.get(kind)
            if crossed is not None:
                crossed.told_at = crossed.told_before
        if telling is not None:
            telling.refused(self._judged_at, self._cooldown)

    def _of(self, alert: Alert, now: datetime, samples: list[Sample]) -> list[Notice]:
        notices, seen = [], set()
        for sample in self._values(alert, now, samples):
            seen.add(sample.labels)
            notice = self._noticed(alert, now, sample)
            if notice is not None:
                notices.append(notice)
        # What is no longer there at all, such as a table that was dropped, is over, too.
        gone = [kind for kind in self._crossed if kind[0] == alert.name and kind[1] not in seen]
        if not alert.rate and any(sample.metric is alert.metric for sample in samples):
            notices += [
                over
                for kind in gone
                if (over := self._ended(alert, kind, Sample(alert.metric, 0.0, kind[1])))
            ]
        return notices

    def _values(self, alert: Alert, now: datetime, samples: list[Sample]) -> list[Sample]:
        where = dict(alert.where)
        mine = [
            sample
            for sample in samples
            if sample.metric is alert.metric
            and where.items() <= dict(zip(alert.metric.labels, sample.labels, strict=False)).items()
        ]
        if not alert.rate:
            return mine
        total = sum(sample.value for sample in mine)
        before, self._before[alert.name] = self._before.get(alert.name), (now, total)
        if before is None or now <= before[0]:
            return []
        growth = max(total - before[1], 0.0) / (now - before[0]).total_seconds()
        return [Sample(alert.metric, growth)]

    def _noticed(self, alert: Alert, now: datetime, sample: Sample) -> Notice | None:
        kind = (alert.name, sample.labels)
        if not alert.is_crossed(sample.value):
            return self._ended(alert, kind, sample)
        crossed = self._crossed.setdefault(kind, _Crossed(since=now))
        if now - crossed.since < timedelta(seconds=alert.lasting):
            return None
        if crossed.again_at is None:
            crossed.refused_since = None
            if crossed.told_at is not None and now - crossed.told_at < self._cooldown:
                return None
        elif now < crossed.again_at:
            return None
        crossed.told_before, crossed.told_at, crossed.again_at = crossed.told_at, now, None
        self._ends.pop(kind, None)
        return Notice(alert, _named(alert, sample), sample.value, crossed.since)

    def _ended(
        self, alert: Alert, kind: tuple[str, tuple[str, ...]], sample: Sample
    ) -> Notice | None:
        crossed = self._crossed.pop(kind, None)
        if crossed is None or crossed.told_at is None:
            return None
        over = Notice(alert, _named(alert, sample), sample.value, crossed.since, is_over=True)
        self._ends[kind] = _End(notice=over)
        return over


def _due(end: _End, now: datetime) -> Notice | None:
    if end.again_at is None or now < end.again_at:
        return None
    end.again_at = None
    return end.notice


def _named(alert: Alert, sample: Sample) -> tuple[tuple[str, str], ...]:
    return tuple(zip(alert.metric.labels, sample.labels, strict=False))
