"""mypy and pyright type repositories as their models, and events as their subscriptions, say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.type_checkers import ROOT, complaints, mypy, pyright

PROOF = Path(__file__).with_name("declared_models.py")
EVENTS = Path(__file__).with_name("subscribed_events.py")
DECLARATIONS = ROOT / "tests" / "declared.py"


def spoiled(folder: Path) -> Path:
    """The proof with one claim that is wrong."""
    text = PROOF.read_text()
    right = "assert_type(storage.repository(ticks), Ticks)"
    assert right in text
    found = folder / "spoiled.py"
    found.write_text(text.replace(right, "assert_type(storage.repository(ticks), Orders)"))
    return found


def spoiled_events(folder: Path) -> Path:
    text = EVENTS.read_text()
    right = "assert_type(move, Moved)"
    assert right in text
    found = folder / "spoiled_events.py"
    found.write_text(text.replace(right, "assert_type(move, DomainEvent)"))
    return found


def test_mypy_knows_the_repositories_of_declared_models(tmp_path: Path) -> None:
    bad = spoiled(tmp_path)
    done = mypy(PROOF, EVENTS, bad)
    assert complaints(done, but_of=bad) == []
    assert 'Expression is of type "Ticks", not "Orders"' in done.stdout, done.stdout


@pytest.mark.slow
def test_pyright_knows_the_repositories_of_declared_models(tmp_path: Path) -> None:
    bad = spoiled(tmp_path)
    done = pyright(tmp_path, PROOF, EVENTS, DECLARATIONS, bad)
    assert complaints(done, but_of=bad) == []
    assert 'expected "Orders" but received "Ticks"' in done.stdout, done.stdout
