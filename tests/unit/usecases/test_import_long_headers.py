"""Headers of CSV files that stand behind, or go on behind, the part that is looked at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from jts_storage import Storage
from jts_storage.errors import InvalidData
from jts_storage.readers import text_files
from jts_storage.readers.file_source import Layout
from tests.unit.usecases.imported import imported

SAMPLE = text_files._SAMPLE
HEADER = "t,o,h,l,c,v\n"
ROW = "1704153600,1,1,1,1,9\n"


@pytest.mark.parametrize("is_skipped", [True, False])
async def test_half_of_a_name_is_no_column(
    storage: Storage, tmp_path: Path, is_skipped: bool
) -> None:
    path = tmp_path / "p.csv"
    begun = "t,o,h,l,c,volume"
    above = "x" * (SAMPLE - len(begun) - 1) + "\n"
    wide = "x" * (SAMPLE - len(begun) - 1) + ","
    path.write_text(
        above + begun + "_usd\n" + ROW if is_skipped else wide + begun + "_usd\n," + ROW
    )
    with pytest.raises(InvalidData, match="no column for volume among"):
        await imported(storage, path, layout=Layout(skip_lines=int(is_skipped)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp949"])
@pytest.mark.parametrize("width", [63, 66, 5_000])
async def test_many_long_lines_above_the_header_are_left_out(
    storage: Storage, tmp_path: Path, width: int, encoding: str
) -> None:
    path = tmp_path / "p.csv"
    above = "".join(f"{n:0{width}d}\n" for n in range(1_000))
    path.write_bytes((above + HEADER.replace("v", "거래량") + ROW).encode(encoding))
    assert (await imported(storage, path, layout=Layout(skip_lines=1_000))).inserted == 1


async def test_a_header_of_more_than_the_sample_is_read_whole(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    count = SAMPLE // 2
    names = ",".join(f"x{n}" for n in range(count))
    path.write_text(f"{names},{HEADER}{',' * count}{ROW}")
    assert (await imported(storage, path)).inserted == 1


async def test_a_quote_that_is_not_closed_ends_the_search(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.csv"
    monkeypatch.setattr(text_files, "_LONGEST_HEADER", 1 << 17)
    path.write_text('"Prices\n' + HEADER + ROW * 10_000)
    with pytest.raises(InvalidData, match=r"line 1: the header does not end .* a quote") as error:
        await imported(storage, path)
    assert "Layout(skip_lines=1)" in str(error.value)
    assert (await imported(storage, path, layout=Layout(skip_lines=1))).read == 10_000
