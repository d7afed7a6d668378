from jts_storage.proto.jts.storage.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkRequest(_message.Message):
    __slots__ = ("begin", "call", "chunk", "commit")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    begin: Begin
    call: Call
    chunk: Chunk
    commit: Commit
    def __init__(self, begin: _Optional[_Union[Begin, _Mapping[str, object]]] = ..., call: _Optional[_Union[Call, _Mapping[str, object]]] = ..., chunk: _Optional[_Union[Chunk, _Mapping[str, object]]] = ..., commit: _Optional[_Union[Commit, _Mapping[str, object]]] = ...) -> None: ...

class WholeWork(_message.Message):
    __slots__ = ("begin", "chunks", "commit")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    begin: Begin
    chunks: _containers.RepeatedCompositeFieldContainer[Chunk]
    commit: Commit
    def __init__(self, begin: _Optional[_Union[Begin, _Mapping[str, object]]] = ..., chunks: _Optional[_Iterable[_Union[Chunk, _Mapping[str, object]]]] = ..., commit: _Optional[_Union[Commit, _Mapping[str, object]]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("id", "source")
    ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    source: str
    def __init__(self, id: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("piece", "goes_on")
    PIECE_FIELD_NUMBER: _ClassVar[int]
    GOES_ON_FIELD_NUMBER: _ClassVar[int]
    piece: bytes
    goes_on: bool
    def __init__(self, piece: _Optional[bytes] = ..., goes_on: bool = ...) -> None: ...

class CallText(_message.Message):
    __slots__ = ("method", "arguments")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    method: str
    arguments: _values_pb2.Arguments
    def __init__(self, method: _Optional[str] = ..., arguments: _Optional[_Union[_values_pb2.Arguments, _Mapping[str, object]]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("kind", "data", "key", "table")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    data: bytes
    key: _values_pb2.Key
    table: str
    def __init__(self, kind: _Optional[str] = ..., data: _Optional[bytes] = ..., key: _Optional[_Union[_values_pb2.Key, _Mapping[str, object]]] = ..., table: _Optional[str] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("events", "chunks")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    chunks: int
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping[str, object]]]] = ..., chunks: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "type", "class_name", "key", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    class_name: str
    key: str
    data: bytes
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., class_name: _Optional[str] = ..., key: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class WorkAnswer(_message.Message):
    __slots__ = ("part", "problem", "ended", "committed")
    PART_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    part: _values_pb2.Part
    problem: _values_pb2.Problem
    ended: Ended
    committed: Committed
    def __init__(self, part: _Optional[_Union[_values_pb2.Part, _Mapping[str, object]]] = ..., problem: _Optional[_Union[_values_pb2.Problem, _Mapping[str, object]]] = ..., ended: _Optional[_Union[Ended, _Mapping[str, object]]] = ..., committed: _Optional[_Union[Committed, _Mapping[str, object]]] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Committed(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class SubscriptionRequest(_message.Message):
    __slots__ = ("number", "interest", "read", "wait", "acknowledge", "park")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEREST_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    PARK_FIELD_NUMBER: _ClassVar[int]
    number: int
    interest: Interest
    read: ReadEvents
    wait: WaitForEvents
    acknowledge: AcknowledgeEvents
    park: StoredDelivery
    def __init__(self, number: _Optional[int] = ..., interest: _Optional[_Union[Interest, _Mapping[str, object]]] = ..., read: _Optional[_Union[ReadEvents, _Mapping[str, object]]] = ..., wait: _Optional[_Union[WaitForEvents, _Mapping[str, object]]] = ..., acknowledge: _Optional[_Union[AcknowledgeEvents, _Mapping[str, object]]] = ..., park: _Optional[_Union[StoredDelivery, _Mapping[str, object]]] = ...) -> None: ...

class Interest(_message.Message):
    __slots__ = ("name", "types", "from_stored")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    FROM_STORED_FIELD_NUMBER: _ClassVar[int]
    name: str
    types: _containers.RepeatedScalarFieldContainer[str]
    from_stored: bool
    def __init__(self, name: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ..., from_stored: bool = ...) -> None: ...

class ReadEvents(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WaitForEvents(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AcknowledgeEvents(_message.Message):
    __slots__ = ("places",)
    PLACES_FIELD_NUMBER: _ClassVar[int]
    places: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    def __init__(self, places: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping[str, object]]]] = ...) -> None: ...

class StoredDelivery(_message.Message):
    __slots__ = ("place", "event", "version")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    place: _values_pb2.Value
    event: Event
    version: int
    def __init__(self, place: _Optional[_Union[_values_pb2.Value, _Mapping[str, object]]] = ..., event: _Optional[_Union[Event, _Mapping[str, object]]] = ..., version: _Optional[int] = ...) -> None: ...

class SubscriptionAnswer(_message.Message):
    __slots__ = ("number", "problem", "deliveries", "goes_on")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    GOES_ON_FIELD_NUMBER: _ClassVar[int]
    number: int
    problem: _values_pb2.Problem
    deliveries: _containers.RepeatedCompositeFieldContainer[StoredDelivery]
    goes_on: bool
    def __init__(self, number: _Optional[int] = ..., problem: _Optional[_Union[_values_pb2.Problem, _Mapping[str, object]]] = ..., deliveries: _Optional[_Iterable[_Union[StoredDelivery, _Mapping[str, object]]]] = ..., goes_on: bool = ...) -> None: ...

class HandlersRequest(_message.Message):
    __slots__ = ("hears", "deliver", "handled")
    HEARS_FIELD_NUMBER: _ClassVar[int]
    DELIVER_FIELD_NUMBER: _ClassVar[int]
    HANDLED_FIELD_NUMBER: _ClassVar[int]
    hears: Hears
    deliver: DeliverEvents
    handled: HandledEvent
    def __init__(self, hears: _Optional[_Union[Hears, _Mapping[str, object]]] = ..., deliver: _Optional[_Union[DeliverEvents, _Mapping[str, object]]] = ..., handled: _Optional[_Union[HandledEvent, _Mapping[str, object]]] = ...) -> None: ...

class Hears(_message.Message):
    __slots__ = ("types",)
    TYPES_FIELD_NUMBER: _ClassVar[int]
    types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, types: _Optional[_Iterable[str]] = ...) -> None: ...

class DeliverEvents(_message.Message):
    __slots__ = ("number", "keys")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    number: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, number: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class HandledEvent(_message.Message):
    __slots__ = ("number", "has_failed", "is_unknown")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HAS_FAILED_FIELD_NUMBER: _ClassVar[int]
    IS_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    number: int
    has_failed: bool
    is_unknown: bool
    def __init__(self, number: _Optional[int] = ..., has_failed: bool = ..., is_unknown: bool = ...) -> None: ...

class HandlersAnswer(_message.Message):
    __slots__ = ("listening", "given", "dropped", "delivered")
    LISTENING_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    listening: Listening
    given: GivenEvent
    dropped: int
    delivered: int
    def __init__(self, listening: _Optional[_Union[Listening, _Mapping[str, object]]] = ..., given: _Optional[_Union[GivenEvent, _Mapping[str, object]]] = ..., dropped: _Optional[int] = ..., delivered: _Optional[int] = ...) -> None: ...

class Listening(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GivenEvent(_message.Message):
    __slots__ = ("number", "event", "trace")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    number: int
    event: Event
    trace: str
    def __init__(self, number: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping[str, object]]] = ..., trace: _Optional[str] = ...) -> None: ...
