"""Events as the wire has them: the gateway and its client need not know the same classes."""

from __future__ import annotations

import json

from jts_storage.domain.subscriptions import PlainEvent
from jts_storage.errors import InvalidData
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import values
from jts_storage.unit_of_work.subscription import Delivery


def message_of(delivery: Delivery) -> pb.StoredDelivery:
    event = delivery.event
    message = pb.StoredDelivery(event=event_message(event), version=event.version)
    values.fill(message.place, delivery.place, "place")
    return message


def event_message(event: PlainEvent) -> pb.Event:
    return pb.Event(
        id=event.id,
        type=event.event_type,
        class_name=event.class_name,
        key=event.key,
        data=json.dumps(dict(event.data)).encode(),
    )


def delivery_of(message: pb.StoredDelivery) -> Delivery:
    """
    :raises InvalidData: it is none.
    """
    event = message.event
    try:
        data = json.loads(event.data)
    except ValueError as exc:
        raise InvalidData("is no event", field="data") from exc
    plain = PlainEvent(event.id, event.type, event.class_name, event.key, data, message.version)
    return Delivery(values.read(message.place), plain)
