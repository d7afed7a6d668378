"""What is started, restarted and stopped, and when; time stands until a test lets it pass."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.errors import NotFound, StorageError
from jts_storage.services.manager import ServiceManager
from jts_storage.services.restarts import Restarts
from tests.unit.services.units import Clock, FakeUnits, Scene

NEEDS = {"store": [], "other": [], "gateway": ["store", "other"], "edge": ["gateway"]}


def test_pauses_double_and_end() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    assert [restarts.failed() for _ in range(5)] == [0.2, 0.4, 0.8, None, None]
    restarts.was_well()
    clock.now += 59.9
    restarts.was_well()
    assert restarts.failed() is None
    restarts.was_well()
    clock.now += 60
    assert restarts.was_well()
    assert restarts.failed() == 0.2


def test_a_failure_ends_a_time_of_health() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    restarts.was_well()
    clock.now += 59
    restarts.failed()
    clock.now += 2
    assert not restarts.was_well()
    assert restarts.count == 1


def test_a_minute_of_health_is_one_without_a_break() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    restarts.failed()
    for _ in range(10):
        restarts.was_well()
        clock.now += 30
        restarts.was_ill()
    assert restarts.count == 1


def test_services_start_when_what_they_need_is_well() -> None:
    """UT-INFRA-01.1: in the order of what they need."""
    scene = Scene(NEEDS)
    assert isinstance(scene.manager, ServiceManager)
    started = scene.manager.start_services()
    assert [(each.service_name, each.status) for each in started] == [
        (name, "running") for name in NEEDS
    ]
    done = scene.units.done
    for name, needs in NEEDS.items():
        assert all(done.index(f"well {need}") < done.index(f"start {name}") for need in needs)
    assert started[0].uptime_seconds == 3
    assert started[0].health_check_url == "fake://store"


def test_nothing_is_started_when_something_is_in_the_way() -> None:
    """ET-INFRA-01.1: all of it is told, and nothing is started."""
    scene = Scene(NEEDS)
    scene.units.in_the_way = ["too little memory", "a port is taken"]
    with pytest.raises(StorageError, match=r"(?s)too little memory.*a port is taken"):
        scene.manager.start_services()
    assert scene.units.done == []


@pytest.mark.parametrize("how", ["ends", "refuses"])
def test_one_that_does_not_start_keeps_those_down_that_need_it(how: str) -> None:
    scene = Scene(NEEDS)
    getattr(scene.units, how).add("store")
    scene.units.look_every = 0.001
    scene.clock.now = 0
    ticking = scene.units.look

    def look(names: list[str]) -> object:
        scene.clock.now += 0.01
        return ticking(names)

    scene.units.look = look  # type: ignore[method-assign,assignment]
    told = {each.service_name: each for each in scene.manager.start_services()}
    assert told["store"].status == "error"
    assert "given up after 3 restarts" in told["store"].detail
    assert scene.starts("store") == 4
    assert told["other"].status == "running"
    assert "it needs store" in told["gateway"].detail
    assert (scene.starts("gateway"), scene.starts("edge")) == (0, 0)


def test_a_failed_service_is_started_again_after_a_pause() -> None:
    """UT-INFRA-01.2: it is restarted, and its status says so all the time."""
    scene = Scene(NEEDS)
    scene.manager.start_services()
    scene.units.alive.discard("other")
    assert scene.told()["other"] == ("error", "it has ended; it is started again (1 of 3)")
    scene.clock.now += 0.19
    assert scene.told()["other"][0] == "error"
    assert scene.starts("other") == 1
    scene.clock.now += 0.02
    scene.told()
    assert scene.starts("other") == 2
    assert scene.told()["other"] == ("running", "")
    assert {each.service_name: each.restarts for each in scene.manager.status()}["other"] == 1


def test_a_crash_loop_is_bounded_and_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    scene.units.alive.clear()
    scene.units.ends.add("store")
    with caplog.at_level(logging.ERROR):
        scene.watch(300)
    assert scene.starts("store") == 1 + 3
    assert scene.told()["store"] == ("error", "given up after 3 restarts: it has ended")
    assert caplog.text.count("given up") == 1


def test_a_minute_of_health_forgives() -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    for _ in range(10):
        scene.units.alive.clear()
        scene.watch(1)
        assert scene.told()["store"][0] == "running"
        scene.watch(61, step=1)
    assert scene.starts("store") == 11


def test_one_that_lives_and_is_not_well_is_told_and_left_alone() -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    scene.units.ill["store"] = "it does not answer"
    scene.watch(600, step=1)
    assert scene.told()["store"] == ("error", "it does not answer")
    assert scene.units.done.count("stop store") == 0


def test_one_that_is_not_well_is_restarted_if_that_is_wanted() -> None:
    scene = Scene({"store": []}, restart_unhealthy=True)
    scene.manager.start_services()
    scene.clock.now += 100  # it is no longer starting
    scene.units.ill["store"] = "it does not answer"
    scene.told()
    assert "stop store" in scene.units.done
    scene.watch(1_000, step=0.5)
    assert scene.units.done.count("stop store") <= 4
    assert scene.starts("store") <= 4


def test_a_partition_is_told_and_starts_no_storm() -> None:
    """ET-INFRA-01.2: the gateway cannot reach its store: each is told as it is, none restarted."""
    scene = Scene(NEEDS, restart_unhealthy=True)
    scene.manager.start_services()
    before = len([each for each in scene.units.done if each.startswith("start")])
    scene.units.ill = {"store": "it does not answer", "gateway": "a store does not answer"}
    scene.watch(30, step=1)
    told = scene.told()
    assert told["store"] == ("error", "it does not answer")
    assert told["gateway"] == (
        "error",
        "a store does not answer; it needs store, which is not well",
    )
    assert told["other"] == ("running", "")
    assert len([each for each in scene.units.done if each.startswith("start")]) == before
    assert "stop gateway" not in scene.units.done
    scene.units.ill.clear()
    assert {status for status, _ in scene.told().values()} == {"running"}


def test_one_that_cannot_reach_what_it_needs_is_not_restarted_even_if_that_is_wanted() -> None:
    """ET-INFRA-01.2: its illness is that of its store."""
    scene = Scene(NEEDS, restart_unhealthy=True)
    scene.manager.start_services()
    scene.clock.now += 100  # none is starting any more
    scene.units.ill = {"store": "it does not answer", "gateway": "a store does not answer"}
    scene.watch(300, step=1)
    assert "stop store" in scene.units.done
    assert "stop gateway" not in scene.units.done


def test_one_whose_needs_are_gone_waits_for_them() -> None:
    scene = Scene(NEEDS)
    scene.manager.start_services()
    scene.units.alive -= {"store", "gateway"}
    scene.units.refuses.add("store")
    scene.watch(100, step=0.1)
    assert scene.starts("store") == 4
    assert scene.starts("gateway") == 1, "its own restarts are not used up"
    assert scene.told()["gateway"] == ("error", "it waits for store")
    scene.units.refuses.clear()
    assert scene.manager.restart("store").is_well
    scene.watch(1)
    assert scene.told()["gateway"][0] == "running"


def test_services_stop_before_what_they_need() -> None:
    """UT-INFRA-01.3: in the reverse order, and one that had to be killed is told."""
    scene = Scene(NEEDS)
    scene.manager.start_services()
    scene.units.killed_at_stop.add("gateway")
    stopped = {each.service_name: each for each in scene.manager.stop_services()}
    assert {each.status for each in stopped.values()} == {"stopped"}
    assert stopped["gateway"].detail == "it was killed"
    done = scene.units.done
    for name, needs in NEEDS.items():
        assert all(done.index(f"stop {name}") < done.index(f"stop {need}") for need in needs)
    scene.watch(100, step=1)
    assert scene.starts("store") == 1, "what was stopped stays down"
    scene.manager.stop_services()


def test_a_stop_that_fails_stops_the_others() -> None:
    scene = Scene(NEEDS)
    scene.manager.start_services()
    stop = scene.units.stop

    def failing(name: str) -> str:
        if name == "edge":
            raise StorageError("no answer")
        return stop(name)

    scene.units.stop = failing  # type: ignore[method-assign]
    told = {each.service_name: each for each in scene.manager.stop_services()}
    assert told["edge"].status == "running"
    assert "could not be stopped: no answer" in told["edge"].detail
    assert told["store"].status == "stopped"


def test_an_engine_that_restarts_for_ever_is_bounded() -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    scene.units.restarting["store"] = 1
    assert scene.told()["store"] == ("error", "ended with 1")
    assert scene.starts("store") == 1, "the engine does it"
    scene.units.restarting["store"] = 3
    assert "given up after 3 restarts by the engine" in scene.told()["store"][1]
    assert "stop store" in scene.units.done
    scene.watch(100, step=1)
    assert scene.starts("store") == 1


def test_restart_forgets_what_failed_before() -> None:
    scene = Scene({"store": []})
    scene.manager.start_services()
    scene.units.alive.clear()
    scene.units.ends.add("store")
    scene.watch(10)
    scene.units.ends.clear()
    found = scene.manager.restart("store")
    assert (found.status, found.restarts, found.detail) == ("running", 0, "")
    with pytest.raises(NotFound, match="No service 'redis'"):
        scene.manager.restart("redis")


def test_an_interrupted_start_starts_no_more() -> None:
    scene = Scene({"store": [], "gateway": ["store"]})
    scene.units.ill["store"] = "it is slow"
    scene.units.look_every = 0.001
    start = scene.units.start

    def interrupted(name: str) -> None:
        start(name)
        scene.manager.interrupt()

    scene.units.start = interrupted  # type: ignore[method-assign]
    scene.manager.start_services()
    assert scene.units.done.count("start gateway") == 0


def test_a_failure_that_nobody_foresaw_waits_for_no_start() -> None:
    """As Ctrl-C in a notebook; time stands here, so the other start would never end by itself."""
    scene = Scene({"store": [], "other": []})
    scene.units.ill["other"] = "it is slow"
    scene.units.look_every = 0.001
    start = scene.units.start

    def interrupted(name: str) -> None:
        start(name)
        if name == "store":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.units.start = interrupted  # type: ignore[method-assign]
        scene.manager.start_services()
    scene.units.start = start  # type: ignore[method-assign]
    scene.units.ill.clear()
    assert all(each.is_well for each in scene.manager.start_services())


def test_what_cannot_be_looked_at_during_a_start_is_told_and_not_forgotten() -> None:
    scene = Scene({"store": []})
    scene.units.look_every = 0.001

    def look(_: object) -> object:
        scene.clock.now += 10
        raise StorageError("no answer")

    scene.units.look = look  # type: ignore[method-assign,assignment]
    (told,) = scene.manager.start_services()
    assert (told.status, told.detail) == ("error", "no answer")


def test_status_changes_nothing() -> None:
    scene = Scene(NEEDS)
    assert {each.status for each in scene.manager.status()} == {"stopped"}
    scene.manager.start_services()
    scene.units.alive.clear()
    before = [each for each in scene.units.done if not each.startswith("well")]
    scene.manager.status()
    assert [each for each in scene.units.done if not each.startswith("well")] == before


@settings(max_examples=40)
@given(st.data())
def test_whatever_fails_order_and_bounds_hold(data: st.DataObject) -> None:
    """PT-INFRA-01.1: no service starts before its needs are well, none more than allowed."""
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 5)))]
    needs = {
        name: sorted(data.draw(st.sets(st.sampled_from(names[:at]) if at else st.nothing())))
        for at, name in enumerate(names)
    }
    scene = Scene(needs)
    scene.manager.start_services()
    units = scene.units
    _check_needs(units, needs)
    for _ in range(data.draw(st.integers(1, 12))):
        name = data.draw(st.sampled_from(names))
        data.draw(
            st.sampled_from(
                [
                    lambda n: units.alive.discard(n),
                    lambda n: units.ends.add(n),
                    lambda n: units.ends.discard(n),
                    lambda n: units.ill.update({n: "ill"}),
                    lambda n: units.ill.pop(n, None),
                ]
            )
        )(name)
        started = {each: scene.starts(each) for each in names}
        units.done.clear()
        scene.watch(data.draw(st.sampled_from([0.1, 1.0, 5.0])))
        _check_needs(units, needs)
        assert all(scene.starts(each) <= 3 for each in started)


def _check_needs(units: FakeUnits, needs: dict[str, list[str]]) -> None:
    """Before each start, every need was found well since it last was started."""
    well: set[str] = {name for name in needs if f"start {name}" not in units.done}
    for each in units.done:
        what, name = each.split()
        if what == "well":
            well.add(name)
        elif what == "start":
            assert set(needs[name]) <= well
            well.discard(name)
