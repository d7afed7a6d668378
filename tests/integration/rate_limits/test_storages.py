"""Rate limits of a storage on disk, for its service, beside others, and in tests of services."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jts_storage import PerDay, PerSecond, RateLimits, Storage, StorageSettings
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.rate_limits import read_limits

ROOT = Path(__file__).parents[3]
LIMITS = RateLimits(kis=[PerSecond(15), PerDay(2, timezone="Asia/Seoul")])


async def test_a_storage_counts_beside_its_bookkeeping_for_as_long_as_the_day_lasts(
    fresh_settings: StorageSettings,
) -> None:
    settings = fresh_settings.model_copy(update={"rate_limits": LIMITS})
    for number in range(2):
        async with (
            Storage.open(settings) as storage,
            storage.rate_limits.acquire("kis", "main") as slot,
        ):
            assert slot.remaining == 1 - number
            health = await storage.health()
            assert health["rate_limits"]
            assert [each.used for each in health.rate_limits[0].limits][1] == 1 + number
    path = settings.database().path
    assert path is not None
    assert path.with_name("rate_limits.db").exists()


async def test_a_storage_with_no_place_to_count_opens_and_says_so_when_it_is_asked() -> None:
    settings = StorageSettings(rate_limits=LIMITS, rate_limits_url="sqlite://", env_file=None)
    backend = Storage.in_memory()._backend
    backend.settings = settings  # type: ignore[attr-defined]
    async with Storage(backend) as storage:
        with pytest.raises(InvalidConfiguration, match=r"in memory.*JTS_REDIS_URL"):
            _ = storage.rate_limits
        assert "rate_limits" not in await storage.health()


def test_the_examples_can_be_set() -> None:
    limits = read_limits((ROOT / "examples" / "rate_limits.json").read_text())
    assert limits["kis"] == (PerSecond(15),)
    page = (ROOT / "docs" / "how-to" / "respect-rate-limits.md").read_text()
    for name, each in limits.items():
        assert f"| `{name}` | `" in page
        written = page.partition(f"| `{name}` | `")[2].partition("`")[0]
        assert read_limits(f"{name}={written}")[name] == each


@pytest.mark.parametrize("backend", ["memory", pytest.param("embedded", marks=pytest.mark.slow)])
def test_the_fixtures_count_anew_in_each_test(tmp_path: Path, backend: str) -> None:
    (tmp_path / "test_service.py").write_text(
        """
import pytest
from jts_storage import PerDay, RateLimits

@pytest.fixture(scope="session")
def jts_rate_limits():
    return RateLimits(kis=[PerDay(1, timezone="Asia/Seoul")])

@pytest.mark.parametrize("number", range(2))
def test_blocking(jts_sync_storage, number):
    with jts_sync_storage.rate_limits.acquire("kis") as slot:
        assert slot.remaining == 0

@pytest.mark.asyncio
async def test_asynchronous(jts_storage, jts_memory_storage, make_rate_limits):
    for storage in (jts_storage, jts_memory_storage):
        async with storage.rate_limits.acquire("kis") as slot:
            assert slot.remaining == 0
    assert "kis" in make_rate_limits()
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [*command, f"--jts-backend={backend}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "3 passed" in done.stdout, done.stdout
