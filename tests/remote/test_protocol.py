"""What travels is generated from its sources, and breaks no client of an earlier release."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jts_storage.errors import InvalidData
from jts_storage.proto.jts.storage.v1 import services_pb2, values_pb2, work_pb2
from jts_storage.remote import values
from jts_storage.remote.kinds import ENTITIES, MEMBERS, names_of
from jts_storage.remote.methods import IN_WORK, METHODS

ROOT = Path(__file__).parents[2]
RELEASED = Path(__file__).with_name("protocol.json")
"""The protocol as it was released; running this file writes it, at a release."""


def protocol() -> dict[str, Any]:
    """All that a client of this release counts on."""
    messages: dict[str, dict[str, list[Any]]] = {}
    members: dict[str, dict[str, int]] = {}

    def add(descriptor: Any) -> None:
        messages[descriptor.full_name] = {
            field.name: [field.number, field.type, field.label] for field in descriptor.fields
        }
        for each in descriptor.enum_types:
            members[each.full_name] = {value.name: value.number for value in each.values}
        for each in descriptor.nested_types:
            add(each)

    services = {}
    for module in (values_pb2, work_pb2, services_pb2):
        for each in module.DESCRIPTOR.message_types_by_name.values():
            add(each)
        for each in module.DESCRIPTOR.services_by_name.values():
            for method in each.methods:
                services[f"{each.full_name}/{method.name}"] = [
                    method.input_type.full_name,
                    method.output_type.full_name,
                    method.client_streaming,
                    method.server_streaming,
                ]
    return {
        "messages": messages,
        "members": members,
        "services": services,
        "methods": {
            path: [method.comes, list(method.names)]
            for path, method in {**METHODS, **IN_WORK}.items()
        },
        "entities": {name: list(names_of(name)) for name in ENTITIES},
        "enumerations": {name: [each.value for each in kind] for name, kind in MEMBERS.items()},
    }


def broken(released: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a client of the release would miss, or take for something else."""
    found = []
    for part in ("messages", "members", "entities", "enumerations", "services", "methods"):
        for name, content in released[part].items():
            there = now[part].get(name)
            if there is None:
                found.append(f"{part}: {name} is gone")
            elif part in ("messages", "members"):
                found += [
                    f"{name}.{field} is {there.get(field)}, was {was}"
                    for field, was in content.items()
                    if there.get(field) != was
                ]
            elif part in ("entities", "enumerations"):
                found += [f"{name} has no {each}" for each in content if each not in there]
            elif there != content:
                found.append(f"{name} is {there}, was {content}")
    return found


def test_no_client_of_the_release_is_broken() -> None:
    assert broken(json.loads(RELEASED.read_text()), protocol()) == []


def test_what_breaks_clients_is_found() -> None:
    released, now = protocol(), protocol()
    now["messages"]["jts.storage.v1.Key"]["symbol"] = [9, 9, 1]
    del now["messages"]["jts.storage.v1.Value"]["decimal"]
    now["entities"]["Symbol"].remove("sector")
    now["methods"]["Candles/GetRange"] = ["in parts", ["key", "start"]]
    del now["services"]["jts.storage.v1.Gateway/Work"]
    assert len(broken(released, now)) == 5


@pytest.mark.parametrize("script", ["generate_remote.py", "generate_proto.py"])
def test_what_is_generated_is_what_its_sources_say(script: str) -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr


def test_an_entity_of_a_later_release_is_read() -> None:
    """It may say more of itself; what is missing of an earlier one has its default."""
    later = values_pb2.Value()
    values.fill(later, values.read(_symbol()), "symbol")
    later.entity.names.append("color")
    values.fill(later.entity.values.add(), "red", "color")
    assert values.read(later) == values.read(_symbol())


def test_a_kind_of_a_later_release_is_refused_in_words() -> None:
    unknown = _symbol()
    unknown.entity.kind = "Bond"
    with pytest.raises(InvalidData, match="known here"):
        values.read(unknown)


def _symbol() -> values_pb2.Value:
    from jts_storage import Market, Symbol

    value = values_pb2.Value()
    values.fill(value, Symbol("005930", "Samsung", Market.KOSPI), "symbol")
    return value


if __name__ == "__main__":
    RELEASED.write_text(json.dumps(protocol(), sort_keys=True) + "\n")
