from jts_storage.proto.jts.storage.v1 import values_pb2 as _values_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
