"""Numbered files, what is planned from them, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jts_storage.errors import InvalidConfiguration, SchemaDrift
from jts_storage.migrate import files, plan, reports
from jts_storage.migrate.base import applied
from jts_storage.migrate.plan import Goal, History, LogEntry, Step
from jts_storage.migrate.runner import lines


def write(folder: Path, *names: str) -> tuple[files.Migration, ...]:
    versions = folder / "mongo" / "versions"
    versions.mkdir(parents=True)
    for name in names:
        (versions / name).write_text(f'"""{name}"""\n')
    return files.discover("mongo", folder)


@pytest.fixture
def four(tmp_path: Path) -> tuple[files.Migration, ...]:
    return write(tmp_path, "0001_a.py", "0002_pre_b_c.py", "0003_post_d.py", "0004_e.py")


def revisions(steps: list[Step]) -> list[str]:
    return [step.migration.revision for step in steps]


def test_the_last_line_of_a_log_counts_for_each_revision() -> None:
    first, second = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    by_hand = datetime(2024, 1, 3)
    log = [
        ("0001", "up", "one", first),
        ("0002", "stamp", "two", first),
        ("0002", "stamp", "two, edited", second),
        ("0001", "stamp", "one, edited", by_hand),
        ("0003", "up", "three", second),
        ("0003", "down", "three", second),
        ("0004", "stamp", "four", first),
        ("0004", "down", "four", first),
        ("0004", "up", "four again", second),
    ]
    assert applied(log) == {
        "0001": LogEntry("one, edited", by_hand.replace(tzinfo=UTC)),
        "0002": LogEntry("two, edited", second),
        "0004": LogEntry("four again", second),
    }


def test_names_tell_number_phase_and_title(four: tuple[files.Migration, ...]) -> None:
    assert [(m.revision, m.phase, m.title) for m in four] == [
        ("0001", "pre", "a"),
        ("0002", "pre", "b c"),
        ("0003", "post", "d"),
        ("0004", "pre", "e"),
    ]


@pytest.mark.parametrize(
    "names", [("0001_a.py", "0003_b.py"), ("0001_a.py", "0001_b.py"), ("first.py",)]
)
def test_gaps_doubles_and_other_names_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidConfiguration):
        write(tmp_path, *names)


def test_the_kit_brings_migrations_of_every_store() -> None:
    for store in files.STORES:
        assert files.discover(store)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def latin(path: Path) -> object:
        return path.write_bytes('"""Größe"""\n'.encode("latin-1"))

    def dangling(path: Path) -> None:
        path.symlink_to(tmp_path / "gone.py")

    makers: dict[str, Callable[[Path], object]] = {
        "no text in UTF-8": latin,
        "is a directory": Path.mkdir,
        "a link that leads nowhere": dangling,
    }
    for number, (message, make) in enumerate(makers.items()):
        service = tmp_path / str(number)
        (service / "relational").mkdir(parents=True)
        make(service / "relational" / "0001_a.py")
        with pytest.raises(InvalidConfiguration, match=rf"(?i)0001_a\.py .*{message}"):
            files.stores_of(service)


def test_a_checksum_knows_text_but_no_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_bytes(b"a = 1\nb = 2\n")
    unix = files.checksum(path)
    path.write_bytes(b"a = 1\r\nb = 2\r\n")
    assert files.checksum(path) == unix
    path.write_bytes(b"a = 1\nb = 3\n")
    assert files.checksum(path) != unix


@pytest.mark.parametrize(
    ("current", "goal", "expected"),
    [
        (None, Goal(), ["0001", "0002", "0003", "0004"]),
        ("0004", Goal(), []),
        ("0001", Goal(to="3"), ["0002", "0003"]),
        ("0003", Goal(to="0002"), []),
        ("0001", Goal(to="head"), ["0002", "0003", "0004"]),
        (None, Goal(phase="pre"), ["0001", "0002"]),
        ("0002", Goal(phase="pre"), []),
        ("0003", Goal(phase="pre"), ["0004"]),
        ("0003", Goal("down"), ["0003"]),
        ("0001", Goal("down"), ["0001"]),
        (None, Goal("down"), []),
        ("0004", Goal("down", "2"), ["0004", "0003"]),
        ("0004", Goal("down", "base"), ["0004", "0003", "0002", "0001"]),
        ("0001", Goal("down", "3"), []),
    ],
)
def test_plans(
    four: tuple[files.Migration, ...], current: str | None, goal: Goal, expected: list[str]
) -> None:
    assert revisions(plan.steps(four, History(current), goal)) == expected


def test_a_goal_or_a_place_that_no_file_has_is_refused(
    four: tuple[files.Migration, ...],
) -> None:
    with pytest.raises(InvalidConfiguration, match="base, 0001"):
        plan.steps(four, History(), Goal(to="7"))
    with pytest.raises(SchemaDrift, match="0009"):
        plan.steps(four, History("0009"), Goal())


def test_steps_know_where_they_lead(four: tuple[files.Migration, ...]) -> None:
    assert Step(four[1], "up").target == "0002"
    assert Step(four[1], "down").target == "0001"
    assert Step(four[0], "down").target == plan.BASE


def test_lines_tell_applied_changed_pending_and_unknown(
    four: tuple[files.Migration, ...],
) -> None:
    at = datetime(2025, 1, 1, tzinfo=UTC)
    entries = {"0001": LogEntry(four[0].checksum, at), "0002": LogEntry("other", at)}
    found = lines("mongo", four, History("0003", entries))
    assert [(line.state, line.at) for line in found] == [
        ("applied", at),
        ("changed", at),
        ("applied", None),
        ("pending", None),
    ]
    beyond = lines("mongo", four, History("0007"))
    assert (beyond[-1].revision, beyond[-1].state) == ("0007", "unknown")


def test_events_are_told_in_a_line(four: tuple[files.Migration, ...]) -> None:
    step = Step(four[0], "up")
    assert reports.describe(reports.StepStarted(step)) == "mongo up 0001 a ..."
    assert reports.describe(reports.StepFinished(step, 1.5)) == "mongo up 0001 a done in 1.50 s"
    half = reports.Progress("x to y", 50_000_000, 100_000_000, 25_000_000, 50.0)
    assert reports.describe(half) == (
        "x to y: 50,000,000 of 100,000,000 rows, 500,000/s, 1 min 40 s left"
    )
    assert reports.Progress("x to y", 0, 10, 0, 0.0).seconds_left is None


@pytest.mark.parametrize(
    ("copied", "seconds", "text"),
    [
        (0, 0.0, "10,000,000 of 100,000,000 rows, 0/s"),
        (10_000_000, 20.0, "20,000,000 of 100,000,000 rows, 500,000/s, 2 min 40 s left"),
        (1_000_000, 120.0, "11,000,000 of 100,000,000 rows, 8,333/s, 2 h 58 min left"),
        (80_000_000, 100.0, "90,000,000 of 100,000,000 rows, 800,000/s, 12 s left"),
        (90_000_000, 100.0, "100,000,000 of 100,000,000 rows, 900,000/s, 0 s left"),
    ],
)
def test_a_hundred_million_rows_show_rows_rate_and_time_left(
    copied: int, seconds: float, text: str
) -> None:
    """An earlier run had copied ten million: they count as done, but not for the rate."""
    told = reports.Progress("a to b", 10_000_000 + copied, 100_000_000, copied, seconds)
    assert reports.describe(told) == f"a to b: {text}"
