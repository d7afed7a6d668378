"""PT-INFRA-03.1: no read is older than a commit that was acknowledged before it began."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from jts_storage.redis.coherence import BEGIN, END, LOOK
from jts_storage.redis.scripts import Script
from tests.integration.redis.coherence_model import PREFIX, SERIES, CoherenceModel, Scripts

AAPL = SERIES[0]
_TAKES_AWAY = "redis.call('DEL', KEYS[i])"


def _without(script: Script, part: str, instead: str = "") -> Script:
    assert part in script.text, "the mutant would be no mutant"
    return Script(script.text.replace(part, instead))


def _no_lease() -> Scripts:
    """Writers leave no mark."""
    begun = BEGIN.text.index("local lease")
    return Scripts(begin=Script(BEGIN.text[:begun] + "return 1"))


def _counted() -> Scripts:
    """Generations are counted, so that one that was evicted begins anew."""
    count = "redis.call('INCR', KEYS[i])"
    return Scripts(
        look=_without(LOOK, "g = ARGV[3 + i]", "g = '0'"),
        begin=_without(BEGIN, _TAKES_AWAY, count),
        end=_without(END, _TAKES_AWAY, count),
    )


def _deleted_on_write() -> Scripts:
    """What most caches do: a writer deletes the value, and there are neither marks nor tokens."""
    value = "string.gsub(KEYS[i], ':g:', ':v:') .. ':latest'"
    return Scripts(
        look=Script(
            "local v = redis.call('GET', KEYS[3]) "
            "if v then return {string.rep('0', 16), v, 1000, 0} end "
            "return {string.rep('0', 16), false, 1, 0}"
        ),
        fill=Script("redis.call('SET', KEYS[3], ARGV[4]) return 1"),
        begin=Script("return 1"),
        end=Script(f"for i = 1, tonumber(ARGV[1]) do redis.call('DEL', {value}) end return 1"),
    )


def _generations_stay_at_the_end() -> Scripts:
    return Scripts(end=_without(END, _TAKES_AWAY))


def _generations_stay_at_the_beginning() -> Scripts:
    return Scripts(begin=_without(BEGIN, "for i = 1, n do redis.call('DEL', KEYS[i]) end"))


def run(client: redis.Redis, scripts: Scripts, *, examples: int) -> None:
    class Machine(CoherenceModel):
        pass

    Machine.client, Machine.scripts = client, scripts
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_pt_infra_03_1_no_read_is_older_than_an_acknowledged_commit(
    redis_client: redis.Redis,
) -> None:
    """PT-INFRA-03.1: over deaths of writers, evictions, lost data and steps of clocks."""
    run(redis_client, Scripts(), examples=12)


@pytest.mark.slow
def test_pt_infra_03_1_at_length(redis_client: redis.Redis) -> None:
    run(redis_client, Scripts(), examples=1_500)


def _reads(model: CoherenceModel) -> None:
    model.read(AAPL, 1)


def _dies_after_storing(model: CoherenceModel) -> None:
    """What was read between the announcement and the write is not kept."""
    write = model.announce(AAPL)
    _reads(model)
    model.store(write)
    model.die(write)
    _reads(model)


def _dies_and_its_lease_ends(model: CoherenceModel) -> None:
    """What was kept before the announcement is gone, although nobody says so after the write."""
    _reads(model)
    write = model.announce(AAPL)
    model.store(write)
    model.die(write)
    model.let_leases_end()
    _reads(model)


def _is_evicted(model: CoherenceModel) -> None:
    """A generation that is evicted brings back no value of an earlier one."""
    _reads(model)
    write = model.announce(AAPL)
    model.acknowledge(model.store(write))
    model.client.delete(f"{PREFIX}:g:{AAPL}")
    model.processes[1].held.clear()
    _reads(model)


def _is_overtaken(model: CoherenceModel) -> None:
    """What was read before a write is not kept after it."""
    read = model.ask_the_database(model.look(AAPL, 1))
    write = model.announce(AAPL)
    model.acknowledge(model.store(write))
    model.keep(read)
    _reads(model)


def _loses_its_mark(model: CoherenceModel) -> None:
    """What was kept while a mark was missing is gone at the end of the write."""
    model.marks_stay = False
    write = model.announce(AAPL)
    model.lose_marks(AAPL)
    _reads(model)
    model.acknowledge(model.store(write))
    _reads(model)


CASES: list[tuple[Callable[[], Scripts], Callable[[CoherenceModel], None]]] = [
    (_no_lease, _dies_after_storing),
    (_generations_stay_at_the_beginning, _dies_and_its_lease_ends),
    (_counted, _is_evicted),
    (_deleted_on_write, _is_overtaken),
    (_generations_stay_at_the_end, _loses_its_mark),
]


@pytest.mark.parametrize(("mutant", "story"), CASES)
def test_a_cache_that_does_less_gives_what_is_stale(
    mutant: Callable[[], Scripts],
    story: Callable[[CoherenceModel], None],
    redis_client: redis.Redis,
) -> None:
    def told(scripts: Scripts) -> None:
        model = CoherenceModel()
        model.client, model.scripts = redis_client, scripts
        model.begin(marks_stay=True)
        story(model)

    told(Scripts())
    with pytest.raises(AssertionError, match="was given, not"):
        told(mutant())


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [mutant for mutant, _ in CASES])
def test_stale_reads_of_mutants_are_found(
    mutant: Callable[[], Scripts], redis_client: redis.Redis
) -> None:
    with pytest.raises(AssertionError, match="was given, not"):
        run(redis_client, mutant(), examples=10_000)
