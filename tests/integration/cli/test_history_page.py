"""The page of `history --html`, opened in a real browser without a network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jts_storage import Storage
from jts_storage.cli import history_page
from jts_storage.cli.history_reading import Asked, Corrected
from tests.integration.cli.test_coverage_page import CHROMIUM, DARK, PICTURES, opened
from tests.integration.cli.test_history import KEY, commit, corrected
from tests.runs import every_value_by_day

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


async def read(storage: Storage) -> Corrected:
    asked = Asked(key=KEY, since=None, until=None, start=None, end=None, limit=0)
    return await asked.read(storage, with_candles=True)


async def made(rows: int = 90) -> str:
    async with Storage.in_memory() as storage:
        closes = [(at, str(100 + (at * 7 % 23) / 4)) for at in range(rows)]
        await commit(storage, "import of Friday", *closes)
        await corrected(storage)
        await commit(storage, "vendor's correction", *((at, "107") for at in range(40, 52)))
        return history_page.page(await read(storage), ZoneInfo("Asia/Seoul"))


async def test_the_page_shows_closes_marks_and_corrections(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    path = tmp_path / "history.html"
    path.write_text(await made(), encoding="utf-8")
    document, console = opened(path, tmp_path / "profile", "--dump-dom")
    engine_used("Chromium")
    assert console == ""
    assert 'data-ready="yes"' in document
    assert "History of KRX:005930/1m" in document
    assert document.count('class="bar"') == 90
    assert document.count('class="mark gone"') == 1
    assert document.count('class="deleted"') == 1
    # What somebody said of a commit is text, wherever it stands.
    assert "alert(1)" in document
    assert "<script>alert" not in document
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in document


async def test_nothing_corrected_is_said(tmp_path: Path) -> None:
    path = tmp_path / "history.html"
    path.write_text(history_page.page(Corrected(key=KEY, corrections=()), UTC), encoding="utf-8")
    document, console = opened(path, tmp_path / "profile", "--dump-dom")
    assert console == ""
    assert "Nothing was corrected." in document


@pytest.mark.parametrize(("look", "width"), every_value_by_day(["light", "dark"], [400, 1400]))
async def test_the_page_fits_a_phone_and_a_desk(tmp_path: Path, look: str, width: int) -> None:
    path = tmp_path / "history.html"
    text = await made()
    # A window is at least 500 wide here, so a frame of the width is looked at.
    path.write_text(text, encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body style="margin:0"><iframe src="history.html" style="border:0;width:{width}px;'
        'height:1400px"></iframe><script>onload = () => setTimeout(() => {'
        "const page = document.querySelector('iframe').contentDocument.documentElement;"
        "document.body.dataset.wide = page.scrollWidth}, 3000)</script>",
        encoding="utf-8",
    )
    PICTURES.mkdir(exist_ok=True)
    picture = PICTURES / f"history-{look}-{width}.png"
    picture.unlink(missing_ok=True)
    options = ["--allow-file-access-from-files", f"--window-size={max(width, 500)},1400"]
    options += [DARK] if look == "dark" else []
    document, console = opened(frame, tmp_path / "profile", "--dump-dom", *options)
    assert console == ""
    assert f'data-wide="{width}"' in document, "nothing but a table scrolls sideways"
    opened(frame, tmp_path / "pictures", f"--screenshot={picture}", *options)
    assert picture.stat().st_size > 15_000, "an empty page is smaller"
