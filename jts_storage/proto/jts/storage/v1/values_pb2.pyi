from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Value(_message.Message):
    __slots__ = ("nothing", "truth", "whole", "large", "real", "decimal", "text", "broken_text", "data", "moment", "naive_moment", "day", "span", "member", "list", "map", "entity", "entities", "columns", "page", "trades")
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    TRUTH_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    LARGE_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BROKEN_TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MOMENT_FIELD_NUMBER: _ClassVar[int]
    NAIVE_MOMENT_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    nothing: bool
    truth: bool
    whole: int
    large: str
    real: float
    decimal: str
    text: str
    broken_text: bytes
    data: bytes
    moment: int
    naive_moment: int
    day: int
    span: int
    member: Member
    list: List
    map: Map
    entity: Entities
    entities: Entities
    columns: Columns
    page: Page
    trades: Trades
    def __init__(self, nothing: bool = ..., truth: bool = ..., whole: _Optional[int] = ..., large: _Optional[str] = ..., real: _Optional[float] = ..., decimal: _Optional[str] = ..., text: _Optional[str] = ..., broken_text: _Optional[bytes] = ..., data: _Optional[bytes] = ..., moment: _Optional[int] = ..., naive_moment: _Optional[int] = ..., day: _Optional[int] = ..., span: _Optional[int] = ..., member: _Optional[_Union[Member, _Mapping[str, object]]] = ..., list: _Optional[_Union[List, _Mapping[str, object]]] = ..., map: _Optional[_Union[Map, _Mapping[str, object]]] = ..., entity: _Optional[_Union[Entities, _Mapping[str, object]]] = ..., entities: _Optional[_Union[Entities, _Mapping[str, object]]] = ..., columns: _Optional[_Union[Columns, _Mapping[str, object]]] = ..., page: _Optional[_Union[Page, _Mapping[str, object]]] = ..., trades: _Optional[_Union[Trades, _Mapping[str, object]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    value: str
    def __init__(self, kind: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class List(_message.Message):
    __slots__ = ("items", "shape")
    class Shape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LIST: _ClassVar[List.Shape]
        TUPLE: _ClassVar[List.Shape]
        SET: _ClassVar[List.Shape]
    LIST: List.Shape
    TUPLE: List.Shape
    SET: List.Shape
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Value]
    shape: List.Shape
    def __init__(self, items: _Optional[_Iterable[_Union[Value, _Mapping[str, object]]]] = ..., shape: _Optional[_Union[List.Shape, str]] = ...) -> None: ...

class Map(_message.Message):
    __slots__ = ("keys", "values")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Value]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, keys: _Optional[_Iterable[_Union[Value, _Mapping[str, object]]]] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping[str, object]]]] = ...) -> None: ...

class Entities(_message.Message):
    __slots__ = ("kind", "names", "values", "count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    names: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    count: int
    def __init__(self, kind: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping[str, object]]]] = ..., count: _Optional[int] = ...) -> None: ...

class Trades(_message.Message):
    __slots__ = ("batch", "shape")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    batch: bytes
    shape: List.Shape
    def __init__(self, batch: _Optional[bytes] = ..., shape: _Optional[_Union[List.Shape, str]] = ...) -> None: ...

class Page(_message.Message):
    __slots__ = ("items", "has_more")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    items: Value
    has_more: bool
    def __init__(self, items: _Optional[_Union[Value, _Mapping[str, object]]] = ..., has_more: bool = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("symbol", "timeframe", "exchange")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TIMEFRAME_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    timeframe: str
    exchange: str
    def __init__(self, symbol: _Optional[str] = ..., timeframe: _Optional[str] = ..., exchange: _Optional[str] = ...) -> None: ...

class Columns(_message.Message):
    __slots__ = ("shape", "batches", "keys", "offsets", "timeframe", "fields", "is_compressed")
    class Shape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SERIES: _ClassVar[Columns.Shape]
        PANEL: _ClassVar[Columns.Shape]
        RANGES: _ClassVar[Columns.Shape]
        TABLE: _ClassVar[Columns.Shape]
    SERIES: Columns.Shape
    PANEL: Columns.Shape
    RANGES: Columns.Shape
    TABLE: Columns.Shape
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    TIMEFRAME_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    IS_COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    shape: Columns.Shape
    batches: int
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    offsets: _containers.RepeatedScalarFieldContainer[int]
    timeframe: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    is_compressed: bool
    def __init__(self, shape: _Optional[_Union[Columns.Shape, str]] = ..., batches: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[Key, _Mapping[str, object]]]] = ..., offsets: _Optional[_Iterable[int]] = ..., timeframe: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., is_compressed: bool = ...) -> None: ...

class Arguments(_message.Message):
    __slots__ = ("named",)
    class NamedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping[str, object]]] = ...) -> None: ...
    NAMED_FIELD_NUMBER: _ClassVar[int]
    named: _containers.MessageMap[str, Value]
    def __init__(self, named: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("value", "more_value", "batch", "padding")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MORE_VALUE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    more_value: bytes
    batch: bytes
    padding: bytes
    def __init__(self, value: _Optional[bytes] = ..., more_value: _Optional[bytes] = ..., batch: _Optional[bytes] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("kind", "message", "remedy", "code", "field", "value", "row", "document", "hosts", "transient", "repeatable")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    TRANSIENT_FIELD_NUMBER: _ClassVar[int]
    REPEATABLE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    remedy: str
    code: Value
    field: str
    value: Value
    row: int
    document: str
    hosts: _containers.RepeatedScalarFieldContainer[str]
    transient: bool
    repeatable: bool
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., code: _Optional[_Union[Value, _Mapping[str, object]]] = ..., field: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping[str, object]]] = ..., row: _Optional[int] = ..., document: _Optional[str] = ..., hosts: _Optional[_Iterable[str]] = ..., transient: bool = ..., repeatable: bool = ...) -> None: ...

class ServerRequest(_message.Message):
    __slots__ = ("major", "minor", "version")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    version: str
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class ServerAnswer(_message.Message):
    __slots__ = ("major", "minor", "version", "capabilities", "models")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    version: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ..., version: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ...) -> None: ...
