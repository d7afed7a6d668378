"""A purge on a cluster: every host is told, of the tables that hold the rows, and waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jts_storage import SeriesKey, Timeframe
from jts_storage.clickhouse.purging import HistoryPurge
from jts_storage.clickhouse.tables import build


class Noted:
    """A manager that notes what it is asked, and whose rows are gone when they were erased."""

    def __init__(self, cluster: str | None) -> None:
        self.config = SimpleNamespace(cluster=cluster)
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def execute(self, query: str, bound: Any = None, **more: Any) -> list[tuple[int]]:
        if "has_lightweight_delete" in query:
            return [(1,)]
        if query.startswith("SELECT"):
            erased = {text.split()[2] for text, _ in self.sent if " MASK" not in text}
            is_history = "candles_history" in query
            return [(int(not any(("history" in name) is is_history for name in erased)),)]
        self.sent.append((query, more["settings"]))
        return []


@pytest.mark.parametrize("keys", [None, [SeriesKey("A", Timeframe.D1)]])
def test_a_purge_names_the_cluster(keys: Any) -> None:
    manager: Any = Noted("main")
    HistoryPurge(manager, build("main")).erase(keys, 7)
    assert manager.sent
    for query, settings in manager.sent:
        assert "_local ON CLUSTER main " in query
        assert settings.get("mutations_sync", settings.get("alter_sync")) == 2
    assert {query.split("ON CLUSTER main ")[1].split()[0] for query, _ in manager.sent} == {
        *("DELETE", "APPLY", "FINAL"),
    }


def test_without_a_cluster_the_table_itself_is_named() -> None:
    manager: Any = Noted(None)
    HistoryPurge(manager, build()).erase(None, 7)
    assert manager.sent[0][0].startswith("ALTER TABLE candles_history DELETE WHERE ")


@pytest.mark.parametrize("cluster", [None, "main"])
def test_what_was_only_marked_is_taken_out_of_former_and_of_present_candles(
    cluster: str | None,
) -> None:
    manager: Any = Noted(cluster)
    HistoryPurge(manager, build(cluster)).erase(None, 7)
    masked = [query.split()[2] for query, _ in manager.sent if query.endswith(" MASK")]
    local = "" if cluster is None else "_local"
    # Once what was marked before, and once what the purge itself may have left.
    assert masked == [f"candles_history{local}", f"candles{local}"] * 2
