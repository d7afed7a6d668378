"""Where JTS_URL names a gateway no command takes the embedded stores for those behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jts_storage.cli.main import app
from jts_storage.domain import kept_sessions

AWAY = "grpc://127.0.0.1:1?max_retries=0"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["coverage"], "No gateway answers"),
        (["formulas", "list"], "No gateway answers"),
        (["health"], "No gateway answers"),
        (["serve"], "JTS_URL names a gateway"),
        (["check"], "No gateway answers"),
        (["migrate", "up"], "JTS_URL names a gateway"),
    ],
)
def test_it_asks_the_gateway_or_refuses(
    command: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Set by commands for as long as their process lives, which is that of other tests here.
    monkeypatch.setattr(kept_sessions, "_folder", None)
    monkeypatch.setenv("JTS_URL", AWAY)
    told = CliRunner().invoke(app, command)
    assert told.exit_code
    assert says in told.output
    assert not (tmp_path / ".jts").exists()
