"""What the Parquet store promises, on a folder of its own."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict, InvalidConfiguration, InvalidData
from jts_storage.lake import Damage, DamagedFile, JobFile, ParquetStorageEngine, files
from jts_storage.testing.factories import make_candles

DAY = date(2024, 1, 2)
KEY = SeriesKey("AAPL", Timeframe.M1)
START = datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> ParquetStorageEngine:
    return ParquetStorageEngine(tmp_path / "lake")


def day_of_candles(
    n: int = 0, count: int = 60, seed: int = 0, key: SeriesKey = KEY
) -> CandleSeries:
    return make_candles(key, count, start=START + timedelta(days=n), seed=seed)


def write(
    engine: ParquetStorageEngine,
    data: object,
    job: str = "job",
    day: date = DAY,
    symbol: str = "AAPL",
    overwrite: bool = False,
) -> Path:
    return engine.write(
        data, frame="1m", symbol=symbol, trading_day=day, job_id=job, overwrite=overwrite
    )


def test_the_layout_is_that_of_the_seed(engine: ParquetStorageEngine) -> None:
    path = write(engine, day_of_candles(), "AAPL_2024-01-02")
    assert path == engine.root / "frame=1m/symbol=AAPL/date=2024-01-02/AAPL_2024-01-02.parquet"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_was_written_is_loaded_by_job_and_by_symbol(engine: ParquetStorageEngine) -> None:
    first, second = day_of_candles(0), day_of_candles(1, seed=1)
    write(engine, first, "a")
    write(engine, second, "a", DAY + timedelta(days=1))
    other = day_of_candles(0, key=SeriesKey("MSFT", Timeframe.M1))
    write(engine, other, "a", symbol="MSFT")
    assert engine.load_job_bars("a") == {"AAPL": first.merge(second), "MSFT": other}
    assert engine.load_symbol_data("AAPL", "1m") == first.merge(second)
    assert engine.load_symbol_data("AAPL", "1m", start_date=DAY + timedelta(days=1)) == second
    assert engine.load_symbol_data("AAPL", Timeframe.M1, end_date=DAY) == first


def test_nothing_stored_is_empty(engine: ParquetStorageEngine) -> None:
    assert engine.load_job_bars("nope") == {}
    assert engine.load_symbol_data("AAPL", "1m") == CandleSeries.empty(KEY)
    assert engine.list_jobs() == [] and engine.list_partitions() == []
    assert engine.delete_job("nope") == 0
    assert engine.verify().is_sound


def test_data_come_in_every_form(engine: ParquetStorageEngine) -> None:
    series = day_of_candles()
    as_ns = series.to_columns()["timestamp"] * 1_000_000
    table = series.to_arrow()
    seed_table = table.set_column(0, "ts_ns", pa.array(as_ns))
    seed_frame = series.to_pandas().reset_index(drop=True).assign(ts_ns=as_ns)
    forms = [series, list(series), table, series.to_pandas(), series.to_polars(), seed_table]
    for n, data in enumerate([*forms, seed_frame, series.to_columns()]):
        write(engine, data, f"job{n}")
        assert engine.load_job_bars(f"job{n}") == {"AAPL": series}


def test_data_go_out_in_every_form(engine: ParquetStorageEngine) -> None:
    series = day_of_candles()
    write(engine, series)
    frame = engine.load_job_bars("job", format="pandas")["AAPL"]
    assert isinstance(frame, pd.DataFrame)
    assert CandleSeries.from_pandas(KEY, frame) == series
    assert engine.load_symbol_data("AAPL", "1m", format="arrow") == series.to_arrow()
    assert isinstance(
        pl.from_arrow(engine.load_job_bars("job", format="arrow")["AAPL"]), pl.DataFrame
    )
    with pytest.raises(InvalidData, match="format"):
        engine.load_job_bars("job", format="csv")  # type: ignore[call-overload]


def test_extremes_come_back_exactly(engine: ParquetStorageEngine) -> None:
    most = Decimal("99999999999999.9999")
    first = Candle(datetime(1900, 1, 1, tzinfo=UTC), most, most, -most, Decimal(0), 2**64 - 1)
    last = Candle(datetime(2299, 12, 31, tzinfo=UTC), most, most, most, most, 0)
    series = CandleSeries(KEY, [first, last])
    write(engine, series)
    assert list(engine.load_job_bars("job")["AAPL"]) == [first, last]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    prices=st.lists(st.integers(-(10**18) + 1, 10**18 - 1), min_size=1, max_size=40),
    volumes=st.lists(st.integers(0, 2**64 - 1), min_size=40, max_size=40),
)
def test_any_series_comes_back(
    engine: ParquetStorageEngine, prices: list[int], volumes: list[int]
) -> None:
    price = np.array(prices, np.int64)
    columns = dict.fromkeys(("open", "high", "low", "close"), price)
    series = CandleSeries.from_columns(
        KEY,
        {
            "timestamp": np.arange(len(prices)) * 60_000,
            **columns,
            "volume": np.array(volumes[: len(prices)], np.uint64),
        },
    )
    write(engine, series, overwrite=True)
    assert engine.load_job_bars("job")["AAPL"] == series


def test_what_is_there_is_not_replaced_unless_told(engine: ParquetStorageEngine) -> None:
    old, new = day_of_candles(), day_of_candles(seed=1)
    write(engine, old)
    with pytest.raises(Conflict, match="overwrite=True"):
        write(engine, new)
    assert engine.load_job_bars("job")["AAPL"] == old
    write(engine, new, overwrite=True)
    assert engine.load_job_bars("job")["AAPL"] == new


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", ".", "a/b", "../a", "a\\b", "C:a", "nul", "CON.x", "a*", "a%2F", "_a", ".a",
     "a.", "a\nb", "a\0", "x" * 257, "é" * 101, "{a}", "__HIVE_DEFAULT_PARTITION__", 7],
)  # fmt: skip
@pytest.mark.parametrize("field", ["symbol", "job_id"])
def test_unsafe_names_are_refused(engine: ParquetStorageEngine, field: str, name: str) -> None:
    names = {"symbol": "AAPL", "job_id": "job"} | {field: name}
    with pytest.raises(InvalidData, match=field):
        engine.write(day_of_candles(), frame="1m", trading_day=DAY, **names)  # type: ignore[arg-type]
    assert not engine.root.exists()
    with pytest.raises(InvalidData, match=field):
        if field == "symbol":
            engine.load_symbol_data(name, "1m")
        else:
            engine.load_job_bars(name)


@pytest.mark.parametrize("symbol", ["005930", "BRK.B", "^GSPC", "ES=F", "삼성", "A B", "KRW-BTC"])
def test_real_symbols_are_read_by_hive_readers(engine: ParquetStorageEngine, symbol: str) -> None:
    write(engine, day_of_candles(key=SeriesKey(symbol, Timeframe.M1)), symbol=symbol)
    text = pa.schema([(name, pa.string()) for name in ("frame", "symbol", "date")])
    hive = ds.partitioning(text, flavor="hive")
    table = ds.dataset(engine.root, partitioning=hive, exclude_invalid_files=True).to_table()
    assert set(table["symbol"].to_pylist()) == {symbol}
    assert list(engine.load_job_bars("job")) == [symbol]


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("frame", {"frame": "2m"}),
        ("trading_day", {"trading_day": START}),
        ("data", {"data": []}),
        ("key", {"data": day_of_candles(key=SeriesKey("MSFT", Timeframe.M1))}),
        ("open", {"data": day_of_candles().to_pandas(prices="float")}),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    engine: ParquetStorageEngine, field: str, arguments: dict[str, object]
) -> None:
    good = {"data": day_of_candles(), "frame": "1m", "trading_day": DAY}
    with pytest.raises(InvalidData, match=field):
        engine.write(symbol="AAPL", job_id="job", **(good | arguments))  # type: ignore[arg-type]
    assert not engine.root.exists()


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="compression"):
        ParquetStorageEngine(tmp_path, compression="rar")  # type: ignore[arg-type]


def test_floats_are_taken_only_when_asked(tmp_path: Path) -> None:
    series = day_of_candles()
    engine = ParquetStorageEngine(tmp_path, floats="exact")
    write(engine, series.to_pandas(prices="float"))
    assert engine.load_job_bars("job")["AAPL"] == series


def test_the_exchange_is_kept_in_the_file(engine: ParquetStorageEngine) -> None:
    krx = SeriesKey("AAPL", Timeframe.M1, "KRX")
    write(engine, day_of_candles(key=krx), "a")
    assert engine.load_symbol_data("AAPL", "1m").key == krx
    engine.write(
        day_of_candles(seed=1).to_arrow(),
        frame="1m", symbol="AAPL", trading_day=DAY, job_id="b", exchange="NXT",
    )  # fmt: skip
    with pytest.raises(InvalidData, match="exchange"):
        engine.load_symbol_data("AAPL", "1m")
    with pytest.raises(InvalidData, match="exchange"):
        engine.compact("1m", "AAPL", DAY)
    assert engine.load_symbol_data("AAPL", "1m", exchange="NXT").same_rows(day_of_candles(seed=1))
    assert engine.load_symbol_data("AAPL", "1m", exchange="KRX").key == krx


def test_the_exchange_of_a_file_is_described_and_survives_compaction(
    engine: ParquetStorageEngine,
) -> None:
    krx = SeriesKey("AAPL", Timeframe.M1, "KRX")
    old, new = day_of_candles(key=krx), day_of_candles(key=krx, count=20, seed=1)
    write(engine, old, "a")
    write(engine, new, "b")
    assert [file.key for job in "ab" for file in engine.job_files(job)] == [krx, krx]
    (path,) = engine.compact("1m", "AAPL", DAY)
    assert files.read_series(path)[0].key == krx
    assert [file.key for file in engine.job_files("compacted")] == [krx]
    assert engine.load_symbol_data("AAPL", "1m", exchange="KRX") == old.merge(new)


def test_jobs_of_two_exchanges_are_not_compacted_into_one(engine: ParquetStorageEngine) -> None:
    for exchange in ("KRX", "NXT"):
        key = SeriesKey("AAPL", Timeframe.M1, exchange)
        write(engine, day_of_candles(key=key), exchange)
    with pytest.raises(InvalidData, match="'KRX', 'NXT'"):
        engine.compact("1m", "AAPL", DAY)
    assert engine.list_jobs() == ["KRX", "NXT"]


def test_a_job_of_two_timeframes_is_loaded_one_by_one(engine: ParquetStorageEngine) -> None:
    write(engine, day_of_candles())
    coarse = day_of_candles(key=SeriesKey("AAPL", Timeframe.M5))
    engine.write(coarse, frame="5m", symbol="AAPL", trading_day=DAY, job_id="job")
    with pytest.raises(InvalidData, match="frame"):
        engine.load_job_bars("job")
    assert engine.load_job_bars("job", frame="5m") == {"AAPL": coarse}


def test_of_equal_timestamps_the_later_file_counts(engine: ParquetStorageEngine) -> None:
    old, new = day_of_candles(count=60), day_of_candles(count=20, seed=1)
    write(engine, old, "z")
    write(engine, new, "a")
    assert engine.load_symbol_data("AAPL", "1m") == old.merge(new)
    write(engine, old, "z", overwrite=True)
    assert engine.load_symbol_data("AAPL", "1m") == old


def test_compaction_changes_no_candle(engine: ParquetStorageEngine) -> None:
    write(engine, day_of_candles(count=60), "z")
    write(engine, day_of_candles(count=20, seed=1), "a")
    write(engine, day_of_candles(1), "a", DAY + timedelta(days=1))
    before = engine.load_symbol_data("AAPL", "1m")
    (path,) = engine.compact("1m", "AAPL")
    assert engine.load_symbol_data("AAPL", "1m") == before
    assert [p.name for p in path.parent.iterdir()] == ["compacted.parquet"]
    assert engine.compact("1m", "AAPL") == []
    assert engine.list_jobs() == ["a", "compacted"]
    late = day_of_candles(count=5, seed=2)
    write(engine, late, "b")
    assert engine.load_symbol_data("AAPL", "1m") == before.merge(late)
    assert engine.compact("1m", "AAPL", DAY) == [path]
    assert engine.load_symbol_data("AAPL", "1m") == before.merge(late)


def test_a_job_written_after_a_crashed_compaction_counts(engine: ParquetStorageEngine) -> None:
    """Killed between swap and delete, the sources lie beside the compacted file."""
    write(engine, day_of_candles(count=60), "z")
    source = write(engine, day_of_candles(count=20, seed=1), "a")
    kept = source.read_bytes()
    before = engine.load_symbol_data("AAPL", "1m")
    engine.compact("1m", "AAPL", DAY)
    source.write_bytes(kept)
    assert engine.load_symbol_data("AAPL", "1m") == before
    new = day_of_candles(count=20, seed=3)
    write(engine, new, "a", overwrite=True)
    assert engine.load_symbol_data("AAPL", "1m") == before.merge(new)
    engine.compact("1m", "AAPL", DAY)
    assert engine.load_symbol_data("AAPL", "1m") == before.merge(new)


def test_no_flipped_bit_makes_other_candles(engine: ParquetStorageEngine) -> None:
    """Neither in a page nor in the footer, with its scale of prices and the exchange."""
    candles = make_candles(SeriesKey("AAPL", Timeframe.M1, "NASDAQ"), 50)
    path = write(engine, candles)
    whole = path.read_bytes()
    outcomes = set()
    for at in range(0, len(whole), 5):
        flipped = bytes([whole[at] ^ 1 << at % 8])
        path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
        try:
            loaded = engine.load_symbol_data("AAPL", "1m")
        except DamagedFile:
            outcomes.add("refused")
        else:
            outcomes.add("harmless")
            assert loaded == candles, f"byte {at}"
    assert outcomes == {"refused", "harmless"}


def test_compaction_keeps_which_of_equal_candles_counts(engine: ParquetStorageEngine) -> None:
    """Also of foreign files, which do not say when they were written."""
    for job, seed in (("job", 1), ("job-2", 2)):
        path = write(engine, day_of_candles(count=20, seed=seed), job)
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    before = engine.load_symbol_data("AAPL", "1m")
    engine.compact("1m", "AAPL", DAY)
    assert engine.load_symbol_data("AAPL", "1m") == before


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "text", "other rows"])
def test_a_damaged_file_is_named_or_reported(engine: ParquetStorageEngine, how: str) -> None:
    good = day_of_candles(1)
    path = write(engine, day_of_candles(count=600))
    write(engine, good, day=DAY + timedelta(days=1))
    whole = path.read_bytes()
    middle = len(whole) // 3
    damage = {
        "truncated": whole[:-100],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
        "text": b"no parquet at all, but long enough to be looked at",
    }
    if how == "other rows":
        facts = pq.read_schema(path).metadata
        pq.write_table(good.to_arrow().replace_schema_metadata(facts), path)
    else:
        path.write_bytes(damage[how])
    with pytest.raises(DamagedFile, match=path.name) as caught:
        engine.load_symbol_data("AAPL", "1m")
    assert caught.value.path == path
    with pytest.raises(DamagedFile):
        engine.load_job_bars("job")
    report: list[Damage] = []
    assert engine.load_symbol_data("AAPL", "1m", on_damaged="skip", report=report) == good
    assert engine.load_job_bars("job", on_damaged="skip") == {"AAPL": good}
    assert [d.path for d in report] == [path]
    verified = engine.verify()
    assert [d.path for d in verified.damaged] == [path] and verified.files == 2
    write(engine, good, "other")
    with pytest.raises(DamagedFile):
        engine.compact("1m", "AAPL", DAY)
    assert path.exists()


def test_every_flipped_byte_is_noticed_or_harmless(engine: ParquetStorageEngine) -> None:
    series = day_of_candles(count=50)
    path = write(engine, series)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            loaded = engine.load_job_bars("job")
        except DamagedFile:
            continue
        assert loaded["AAPL"].same_rows(series), place


def test_files_of_others_are_read(engine: ParquetStorageEngine) -> None:
    """MarketPipe writes ts_ns and no metadata of ours."""
    series = day_of_candles()
    stamps = pa.array(series.to_columns()["timestamp"] * 1_000_000)
    folder = engine.root / "frame=1m/symbol=AAPL/date=2024-01-02"
    folder.mkdir(parents=True)
    pq.write_table(series.to_arrow().set_column(0, "ts_ns", stamps), folder / "theirs.parquet")
    assert engine.load_job_bars("theirs") == {"AAPL": series}
    write(engine, day_of_candles(1), "ours", DAY + timedelta(days=1))
    assert len(engine.load_symbol_data("AAPL", "1m")) == 120
    floats = series.to_pandas(prices="float").reset_index()
    floats.to_parquet(folder / "floats.parquet")
    with pytest.raises(DamagedFile, match=r"floats\.parquet.*floats"):
        engine.load_symbol_data("AAPL", "1m")
    assert len(engine.load_symbol_data("AAPL", "1m", on_damaged="skip")) == 120


def test_a_folder_of_a_timeframe_that_is_none_is_not_ours(engine: ParquetStorageEngine) -> None:
    path = write(engine, day_of_candles())
    foreign = engine.root / "frame=7m/symbol=AAPL/date=2024-01-02"
    foreign.mkdir(parents=True)
    shutil.copy(path, foreign)
    assert engine.verify().damaged == ()
    assert [file.path for file in engine.job_files("job")] == [path]


def test_files_that_a_compaction_takes_away_are_not_described(
    engine: ParquetStorageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(engine, day_of_candles(n), day=DAY + timedelta(days=n)) for n in range(2)]
    describe = files.describe

    def overtaken(path: Path) -> JobFile:
        paths[1].unlink(missing_ok=True)
        return describe(path)

    monkeypatch.setattr(files, "describe", overtaken)
    assert [file.path for file in engine.job_files("job")] == paths[:1]


def test_nanoseconds_that_are_none_are_refused(engine: ParquetStorageEngine) -> None:
    table = day_of_candles().to_arrow()
    broken = table.set_column(0, "ts_ns", pa.array(["yesterday"] * len(table)))
    with pytest.raises(InvalidData, match="ts_ns"):
        write(engine, broken)


def test_jobs_are_listed_described_and_deleted(engine: ParquetStorageEngine) -> None:
    series = day_of_candles()
    path = write(engine, series, "a")
    write(engine, series, "b")
    assert engine.list_jobs() == ["a", "b"]
    assert [str(p) for p in engine.list_partitions()] == ["frame=1m/symbol=AAPL/date=2024-01-02"]
    (file,) = engine.job_files("a")
    assert (file.path, file.key, file.rows, file.trading_day) == (path, KEY, 60, DAY)
    assert (file.start, file.end, file.fingerprint) == (
        series.start, series.end, series.fingerprint(),
    )  # fmt: skip
    assert engine.delete_job("a") == 1
    assert engine.list_jobs() == ["b"]


def test_a_moved_file_is_what_its_place_says(engine: ParquetStorageEngine) -> None:
    path = write(engine, day_of_candles(), "a")
    shutil.move(path, path.with_name("b.parquet"))
    assert list(engine.load_job_bars("b")) == ["AAPL"]


def test_what_killed_writers_left_is_reported_and_swept(engine: ParquetStorageEngine) -> None:
    path = write(engine, day_of_candles())
    leftover = path.with_name(".job.parquet.dead.tmp")
    leftover.write_bytes(b"half")
    assert engine.verify().leftovers == (leftover,)
    assert engine.list_jobs() == ["job"]
    write(engine, day_of_candles(), overwrite=True)
    assert not leftover.exists()


def test_a_failed_write_leaves_nothing(
    engine: ParquetStorageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(Exception, match="No space left"):
        write(engine, day_of_candles())
    assert [p for p in engine.root.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


MANY = 12
"""Enough days that they are read in one scan, not file by file."""


def fill(engine: ParquetStorageEngine, days: int = MANY) -> CandleSeries:
    whole = CandleSeries.empty(KEY)
    for n in range(days):
        write(engine, day_of_candles(n, seed=n), day=DAY + timedelta(days=n))
        whole = whole.merge(day_of_candles(n, seed=n))
    return whole


def test_many_days_are_one_series(engine: ParquetStorageEngine) -> None:
    whole = fill(engine)
    assert engine.load_symbol_data("AAPL", "1m") == whole
    assert engine.load_job_bars("job") == {"AAPL": whole}
    late = day_of_candles(3, count=30, seed=99)
    write(engine, late, "a", DAY + timedelta(days=3))
    assert engine.load_symbol_data("AAPL", "1m") == whole.merge(late)


def test_of_many_days_a_damaged_or_shortened_one_is_named(engine: ParquetStorageEngine) -> None:
    whole = fill(engine)
    path = engine.root / "frame=1m/symbol=AAPL/date=2024-01-05/job.parquet"
    sound = path.read_bytes()
    without = whole.between(end=START + timedelta(days=3)).merge(
        whole.between(START + timedelta(days=4))
    )
    shortened = day_of_candles(3, seed=3)[:10].to_arrow()
    for damage in ("bytes", "rows"):
        if damage == "bytes":
            path.write_bytes(sound[:300] + b"?" + sound[301:])
        else:
            path.write_bytes(sound)
            facts = pq.read_schema(path).metadata
            pq.write_table(shortened.replace_schema_metadata(facts), path)
        with pytest.raises(DamagedFile, match="2024-01-05"):
            engine.load_symbol_data("AAPL", "1m")
        assert engine.load_symbol_data("AAPL", "1m", on_damaged="skip") == without


def test_many_days_with_files_of_others_among_them(engine: ParquetStorageEngine) -> None:
    whole = fill(engine)
    folder = engine.root / "frame=1m/symbol=AAPL/date=2024-01-05"
    (folder / "job.parquet").unlink()
    theirs = day_of_candles(3, seed=3)
    stamps = pa.array(theirs.to_columns()["timestamp"] * 1_000_000)
    pq.write_table(theirs.to_arrow().set_column(0, "ts_ns", stamps), folder / "x.parquet")
    assert engine.load_symbol_data("AAPL", "1m") == whole
    floats = theirs.to_pandas(prices="float").reset_index()
    floats.to_parquet(folder / "x.parquet")
    with pytest.raises(DamagedFile, match=r"x\.parquet"):
        engine.load_symbol_data("AAPL", "1m")


def test_a_long_file_has_several_row_groups(engine: ParquetStorageEngine) -> None:
    series = day_of_candles(count=150_000)
    path = write(engine, series)
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
    assert engine.load_job_bars("job") == {"AAPL": series}
    for n in range(MANY):
        write(engine, day_of_candles(200 + n), day=DAY + timedelta(days=200 + n))
    assert (
        engine.load_symbol_data("AAPL", "1m", end_date=DAY + timedelta(days=210))[:150_000]
        == series
    )
