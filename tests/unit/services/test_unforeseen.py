"""Failures that nobody foresaw: no service is left alone by them, and none forgotten."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from jts_storage.errors import StorageError
from jts_storage.services import health
from jts_storage.services.configurations import nginx
from jts_storage.services.local import LocalUnits
from jts_storage.services.stack import PORTS
from jts_storage.services.state import Plan, StateFolder


def test_a_driver_that_raises_whatever_it_likes_ends_no_supervisor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def probe(*_: object) -> str:
        raise RuntimeError("none of the hosts match")

    monkeypatch.setattr(health, "_PROBES", {"redis": probe})
    told = health.why_not_well("redis://127.0.0.1:1")
    assert told == "it could not be asked: none of the hosts match"
    assert "Traceback" in caplog.text


def test_the_last_words_are_those_of_the_server_and_of_its_keeper(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.log").write_text(
        "x" * 9_000 + "\nno memory\nredis ended with 2\n"
    )
    (told,) = LocalUnits(tmp_path, PORTS).look(["redis"]).values()
    assert told.why == "it has ended: no memory; redis ended with 2"


@pytest.mark.parametrize(("failure", "stays"), [(StorageError("no"), False), (KeyError(), True)])
def test_what_may_have_been_started_is_noted(
    tmp_path: Path, failure: Exception, stays: bool
) -> None:
    folder = StateFolder(tmp_path)
    plan = Plan(engine="local", names=["redis"])
    with pytest.raises(type(failure)), folder.planned(plan):
        raise failure
    assert folder.plan() == (plan if stays else None)


def test_a_request_before_the_plan_is_answered_and_not_forgotten(tmp_path: Path) -> None:
    """One who asks as soon as a supervisor has the lock waits for an answer."""
    folder = StateFolder(tmp_path)
    stale = tmp_path / "requests" / "stale.json"
    stale.parent.mkdir()
    stale.write_text('{"do": "stop"}')
    with folder.supervised():
        asker = threading.Thread(target=lambda: StateFolder(tmp_path).ask("stop", timeout=30))
        asker.start()
        found: list[tuple[str, str, list[str]]] = []
        for _ in range(1_000):
            if found := list(folder.requests()):
                break
            asker.join(0.02)
        (request,) = found
        assert request[1:] == ("stop", [])
        folder.answer(request[0])
        asker.join(30)
    assert not asker.is_alive()
    assert not list(stale.parent.iterdir())


@pytest.mark.parametrize("names", [None, 5, "redis", {}])
def test_a_request_of_another_shape_is_passed_over(tmp_path: Path, names: object) -> None:
    folder = StateFolder(tmp_path)
    with folder.supervised():
        folder._requests.mkdir()
        folder._write("requests/1.json", {"do": "restart", "names": names})
        (folder._requests / "2.json").write_text('{"do": "rest')
        assert list(folder.requests()) == []


def test_nginx_is_told_paths_of_any_name(tmp_path: Path) -> None:
    ports: Mapping[str, int] = PORTS
    folder = tmp_path / "$x" / "nginx"
    folder.mkdir(parents=True)
    text = nginx(folder, ports, tmp_path / "$x" / 'a "b"').read_text()
    assert 'ssl_certificate "../a \\"b\\"/server.pem";' in text
    assert "$x" not in text, "the rest is relative to -p"
