"""A page of stored and staged items is the page of what will be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from jts_storage.unit_of_work.staged.pages import merged_page

Item = tuple[str, str]
_names = st.sampled_from("abcdefgh")


class Stored:
    """Pages of items in order, with an account of what was asked."""

    def __init__(self, names: set[str]) -> None:
        self._items = [(name, "stored") for name in sorted(names)]
        self.asked: list[str | None] = []

    async def page(self, limit: int, after: str | None) -> Sequence[Item]:
        self.asked.append(after)
        return [item for item in self._items if after is None or item[0] > after][:limit]


def merged(
    stored: Stored, staged: list[str], hidden: set[str], limit: int, after: str | None
) -> list[Item]:
    return asyncio.run(
        merged_page(
            stored.page,
            [(name, "staged") for name in staged],
            hidden,
            key_of=lambda item: item[0],
            order=lambda key: key,
            limit=limit,
            after=after,
        )
    )


@given(
    st.sets(_names),
    st.sets(_names),
    st.sets(_names),
    st.integers(0, 5),
    st.none() | _names,
)
@example({"a", "b", "c", "d"}, {"b"}, {"a", "c"}, 2, None)
@example({"a", "b"}, {"c"}, set(), 2, None)
@example({"a", "b", "c"}, set(), {"a", "b"}, 1, None)
def test_a_page_is_that_of_both_together(
    stored: set[str], staged: set[str], deleted: set[str], limit: int, after: str | None
) -> None:
    hidden = staged | deleted
    everything = sorted(
        [(name, "stored") for name in stored - hidden] + [(name, "staged") for name in staged]
    )
    wanted = [item for item in everything if after is None or item[0] > after][:limit]
    assert merged(Stored(stored), sorted(staged, reverse=True), hidden, limit, after) == wanted


def test_no_more_is_asked_for_than_the_page_needs() -> None:
    stored = Stored(set("abcdefgh"))
    assert merged(stored, [], set(), 3, "b") == [(name, "stored") for name in "cde"]
    assert stored.asked == ["b"]
    assert merged(stored, [], {"c", "d"}, 2, "b") == [("e", "stored"), ("f", "stored")]
    assert stored.asked == ["b", "b", "d"]


def test_nothing_is_asked_for_twice_when_nothing_is_wanted() -> None:
    stored = Stored(set("abc"))
    assert merged(stored, ["a"], {"a"}, 0, None) == []
    assert stored.asked == [None]
