"""Writes every_field.onnx: a model in which every field of the ONNX messages is set.

Run with the `onnx` package (1.23 or newer) to make it again. It is not a model that runs: it
shows that reading and writing loses nothing.
"""

from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor

count = 0


def scalar(field):
    """A value of the field's type that no other field has."""
    global count
    count += 1
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return bytes([count % 256, 0, 255, 128])
        case FieldDescriptor.CPPTYPE_STRING:
            return f"{field.name} é {count}"
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return count + 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            values = field.enum_type.values
            return values[count % len(values)].number
        case FieldDescriptor.CPPTYPE_UINT64:
            return 2**63 + count
        case FieldDescriptor.CPPTYPE_INT64:
            return -(2**40) - count if count % 2 else count
        case _:
            return -count


def fill(message, within=()):
    """Sets every field. A message that contains itself is left empty the second time, and messages with a
    oneof are repeated so that all of its members occur."""
    global count
    if message.DESCRIPTOR in within:
        return
    within = (*within, message.DESCRIPTOR)
    taken = set()
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None:
            if field.containing_oneof in taken:
                continue
            taken.add(field.containing_oneof)
            count += 1
            field = field.containing_oneof.fields[count % len(field.containing_oneof.fields)]
        if field.message_type is None:
            if field.is_repeated:
                getattr(message, field.name).extend(scalar(field) for _ in range(3))
            else:
                setattr(message, field.name, scalar(field))
        elif field.is_repeated:
            for _ in range(16 if field.message_type.oneofs else 1):
                fill(getattr(message, field.name).add(), within)
        else:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), within)


def set_fields(message, seen):
    """Collects the names of the fields that are set anywhere in `message`."""
    for field, value in message.ListFields():
        seen.add(field.full_name)
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                set_fields(part, seen)


def all_fields(descriptor, found, visited):
    """Collects the names of all fields that `descriptor` and the messages in it have."""
    if descriptor.full_name in visited:
        return
    visited.add(descriptor.full_name)
    for field in descriptor.fields:
        found.add(field.full_name)
        if field.message_type is not None:
            all_fields(field.message_type, found, visited)


model = onnx.ModelProto()
fill(model)
declared, present = set(), set()
all_fields(model.DESCRIPTOR, declared, set())
set_fields(model, present)
assert declared == present, f"not set: {sorted(declared - present)}"
Path(__file__).with_suffix(".onnx").write_bytes(model.SerializeToString(deterministic=True))
