"""A client of the first protocol works against the gateway of today.

There is no release of it yet: the code is that of the commit at which the protocol was complete.
From the first release on it is that of the last one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from tests.remote.gateways import served

ROOT = Path(__file__).parent.parent.parent
EARLIER = "0dfd530"
"""A commit, or a tag."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it was."""
    folder = tmp_path_factory.mktemp("earlier")
    archive = subprocess.run(
        ["git", "archive", EARLIER, "jts_storage", "migrations"], cwd=ROOT, capture_output=True
    )
    if archive.returncode:
        pytest.skip(f"NOT RUN: the history of this checkout has no {EARLIER}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


@pytest.fixture
async def gateway(
    fresh_settings: StorageSettings, tmp_path: Path, engine_used: Callable[[str], None]
) -> AsyncIterator[str]:
    engine_used("an earlier client")
    backend = StoreBackend(fresh_settings)
    async with Storage(backend), served(backend, tmp_path) as found:
        yield f"grpc+unix://{found.address.removeprefix('unix:')}"


async def test_it_does_what_it_did(earlier: Path, gateway: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("earlier_client.py")
    where = "import jts_storage, sys; sys.stdout.write(jts_storage.__file__)"
    environment = os.environ | {"PYTHONPATH": str(earlier), "PYTHONSAFEPATH": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    told = await asyncio.to_thread(run, "-c", where)
    assert told.stdout.startswith(str(earlier)), told.stderr
    done = await asyncio.to_thread(run, str(script), gateway)
    assert (done.returncode, done.stdout) == (0, "as it was\n"), done.stderr
