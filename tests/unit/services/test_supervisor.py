"""What becomes of the process that supervises, and of those who ask it."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jts_storage.cli.services_plans import stopped
from jts_storage.errors import ConnectionFailed
from jts_storage.services import supervisor
from jts_storage.services.local import LocalManager
from jts_storage.services.state import Plan, StateFolder
from jts_storage.services.status import ServiceStatus
from tests.unit.services.units import Scene


class SoManyLooks(threading.Event):
    """Is set after so many looks at it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._left = looks

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_full_disk_is_no_reason_to_stop_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    folder = StateFolder(tmp_path)
    folder.write_state(scene.manager.status())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "write_state", full)
    with caplog.at_level(logging.ERROR):
        supervisor._watch(scene.manager, folder, SoManyLooks(3), 0)
    assert "No space left on device" in caplog.text
    assert not (tmp_path / "state.json").exists(), "an old one is worse than none"


def test_what_a_supervisor_that_hangs_has_noted_is_not_told(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.supervised():
        folder.write_state([ServiceStatus("redis", "running")])
        assert folder.state() is not None
        long_ago = time.time() - 60
        os.utime(tmp_path / "state.json", (long_ago, long_ago))
        assert folder.state() is None


def test_that_somebody_looks_is_noted_though_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    folder = StateFolder(tmp_path)
    noted: list[Any] = []
    monkeypatch.setattr(folder, "write_state", noted.append)
    supervisor._watch(scene.manager, folder, SoManyLooks(3), 0)
    assert len(noted) == 1
    monkeypatch.setattr(supervisor, "_WRITE_EVERY", -1.0)
    supervisor._watch(scene.manager, folder, SoManyLooks(3), 0)
    assert len(noted) == 1 + 3


def test_a_service_that_the_disk_refuses_is_told_and_the_others_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = LocalManager(tmp_path / "services", only=["redis"]).units

    def full(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(units, "_of", full)
    with pytest.raises(ConnectionFailed, match=r"redis could not be started.*No space left"):
        units.start("redis")


def test_what_an_earlier_supervisor_was_asked_is_not_done_by_the_next(tmp_path: Path) -> None:
    """Whoever asked is gone or was told so; a stack that has just been started is not stopped."""
    folder = StateFolder(tmp_path)
    (tmp_path / "requests").mkdir()
    for what in (supervisor.STOP, supervisor.RESTART):
        asked = json.dumps({"do": what, "names": ["store"]})
        (tmp_path / "requests" / f"{what}.json").write_text(asked)
    scene = Scene({"store": []})
    scene.manager.start_services()
    with folder.supervised():
        assert supervisor._watch(scene.manager, folder, SoManyLooks(2), 0) == []
        assert scene.units.done.count("stop store") == 0
        (tmp_path / "requests" / "now.json").write_text(json.dumps({"do": supervisor.STOP}))
        asks = supervisor._watch(scene.manager, folder, SoManyLooks(2), 0)
        assert asks == ["now"]


def test_one_that_ends_while_it_is_asked_to_has_done_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may ask at once, and only the first gets an answer."""
    folder = StateFolder(tmp_path)
    lives = iter([True, False])
    monkeypatch.setattr(folder, "is_supervised", lambda: next(lives, False))

    def unanswered(*_: Any, **__: Any) -> None:
        raise ConnectionFailed("The supervisor gave no answer.")

    monkeypatch.setattr(folder, "ask", unanswered)
    folder.write_plan(Plan(engine="local", names=["redis"]))
    (told,) = stopped(folder)
    assert told.status == "stopped"
