"""What a storage says of itself, with what the observer that it was opened with has heard."""

from __future__ import annotations

from typing import TypeVar

from jts_storage.observe.diagnosis import Diagnosis, LastErrors, diagnose
from jts_storage.observe.several import Observers
from jts_storage.observe.state import StorageState
from jts_storage.observe.watched import Watched
from jts_storage.ports.observation import Observer

T = TypeVar("T")

_SECONDS = 10.0


async def text_of(storage: Watched, observer: Observer | None) -> str:
    """All metrics in Prometheus' text format."""
    from jts_storage.observe import Exposition, Metrics

    # Once, so it waits for what takes long, too; who serves metrics keeps an `Exposition`.
    state = StorageState(storage, within=_SECONDS)
    exposition = Exposition(storage, found(observer, Metrics), state=state)
    try:
        return await exposition.text()
    finally:
        await exposition.close()


async def diagnosis_of(storage: Watched, observer: Observer | None) -> Diagnosis:
    """One page for a ticket."""
    errors = found(observer, LastErrors)
    try:
        from jts_storage.observe.metrics import Metrics
    except ModuleNotFoundError:  # without its extra nobody has opened a storage with one
        return await diagnose(storage, errors=errors)
    return await diagnose(storage, metrics=found(observer, Metrics), errors=errors)


def found(observer: Observer | None, kind: type[T]) -> T | None:
    """The observer of a kind among those that a storage was opened with."""
    among = observer.observers if isinstance(observer, Observers) else (observer,)
    return next((each for each in among if isinstance(each, kind)), None)
