"""What the search of a `FormulaRepository` finds, in many scripts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.ports.formulas import FormulaRepository
from jts_storage.testing.contracts.samples import MANY_SUBCLASSES
from jts_storage.testing.factories import make_formula

TRICKY = "골크ク平sSßẞſﬁﬂﬃﬅfiIİıŉnǰjẖhKkΐιᾷαΣσςᾼÅå̈̇ a_1é-"
"""Letters that fold to several or to those of another alphabet, and what borders words."""


def names(formulas: object) -> list[str]:
    return [formula.name for formula in formulas]  # type: ignore[attr-defined]


class Searches:
    """Part of the contract of `FormulaRepository`."""

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("volume", ["Volume spike", "quiet"]),
            ("VOLUME SPI", ["Volume spike"]),
            ("spike volume", ["Volume spike"]),
            ("vol", ["Volume spike", "quiet"]),
            ("olume", []),
            ("volume nothing", []),
            ("거래", ["거래량 급증"]),
            ("급증", ["거래량 급증"]),
            ("momentum", ["Volume spike"]),
            ("the", ["quiet"]),
            ("", []),
            ("  ", []),
            ('-volume "', ["Volume spike", "quiet"]),
        ],
    )
    async def test_search_finds_words_and_their_beginnings(
        self, formula_repository: FormulaRepository, query: str, found: list[str]
    ) -> None:
        await formula_repository.save_many(
            [
                make_formula("quiet", description="the falling volume", tags=()),
                make_formula("Volume spike", description=None, tags=("momentum",)),
                make_formula("거래량 급증", description="한국어", tags=()),
            ]
        )
        assert names(await formula_repository.search(query)) == found

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("크로스", ["크로스 신호", "데드 크로스", "x", "골든크로스", "RSI골든크로스"]),
            ("골든 크로스", ["골든크로스", "RSI골든크로스"]),
            ("RSI", ["RSI골든크로스"]),
            ("クロス", ["ゴールデンクロス"]),
            ("平均", ["移動平均線"]),
            ("cross", ["cross", "골든cross"]),
            ("ross", []),
        ],
    )
    async def test_search_finds_words_that_are_joined_to_others(
        self, formula_repository: FormulaRepository, query: str, found: list[str]
    ) -> None:
        described = make_formula("x", description="크로스", tags=())
        joined = ["골든크로스", "RSI골든크로스", "ゴールデンクロス", "移動平均線", "골든cross"]
        apart = ["across", "cross", "크로스 신호", "데드 크로스"]
        made = [make_formula(name, description=None, tags=()) for name in [*joined, *apart]]
        saved = {f.name: f for f in await formula_repository.save_many([*made, described])}
        named = names(await formula_repository.search(query))
        assert sorted(named) == sorted(found)
        ranks = [saved[name].rank(query) or 0 for name in named]
        assert ranks == sorted(ranks)  # the beginning of a word comes first
        assert names(await formula_repository.search(query, limit=1)) == named[:1]

    @pytest.mark.parametrize(
        "text", ["Straße ßß", "ﬁnal ﬂow", "İstanbul", "ŉa ǰb", "ΐ ᾷx", "Kelvin ſtop"]
    )
    async def test_words_are_found_whatever_their_letters_fold_to(
        self, formula_repository: FormulaRepository, text: str
    ) -> None:
        saved = await formula_repository.save(make_formula(text, description=None, tags=()))
        await formula_repository.save(make_formula("quiet", description=None, tags=()))
        for word in re.findall(r"\w+", text.casefold()):
            for length in range(1, len(word) + 1):
                found = await formula_repository.search(word[:length])
                assert list(found) == [saved], word[:length]
        assert list(await formula_repository.search(text)) == [saved]
        assert list(await formula_repository.search(text.upper())) == [saved]

    @settings(suppress_health_check=MANY_SUBCLASSES, deadline=None, max_examples=40)
    @given(
        text=st.text(TRICKY, min_size=1, max_size=8).map(str.strip).filter(bool),
        query=st.text(TRICKY, min_size=1, max_size=4),
        part=st.tuples(st.integers(0, 8), st.integers(1, 8)),
    )
    async def test_search_agrees_with_the_rank_of_a_formula(
        self,
        formula_repository: FormulaRepository,
        text: str,
        query: str,
        part: tuple[int, int],
    ) -> None:
        saved = await formula_repository.save(make_formula(text, description=None, tags=()))
        try:
            for asked in (query, text[part[0] :][: part[1]], text.casefold()[part[0] :][: part[1]]):
                expected = [] if saved.rank(asked) is None else [saved]
                assert list(await formula_repository.search(asked)) == expected, (text, asked)
        finally:
            await formula_repository.delete(saved.id or "")
