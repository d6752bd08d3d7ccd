"""Digests of the formats shared with other programs: the database schema and the protocol."""

from collections.abc import Iterator

from pydantic import BaseModel

from coordinator.database.tables import Base
from shared.digest import sha256_of_parts

_LENGTH = 6
_OF_THE_WIRE = ("shared.wire.", "shared.campaign.")


def schema_digest() -> str:
    """Digest of all tables: columns with type and nullability, and indexes."""
    parts = []
    for table in sorted(Base.metadata.tables.values(), key=lambda table: table.name):
        parts += [f"{table.name}.{column.name} {column.type} {column.nullable}" for column in table.columns]
        parts += sorted(f"{index.name} {[column.name for column in index.columns]}" for index in table.indexes)
    return sha256_of_parts(parts)[:_LENGTH]


def protocol_digest() -> str:
    """Digest of all messages and their parts, a campaign's specification among them: their fields, and which are
    required."""
    parts = []
    for message in set(_below(BaseModel)):
        if message.__module__.startswith(_OF_THE_WIRE) and "[" not in message.__name__:
            fields = sorted(f"{name} {field.is_required()}" for name, field in message.model_fields.items())
            parts.append(f"{message.__name__}: {', '.join(fields)}")
    return sha256_of_parts(sorted(parts))[:_LENGTH]  # wherever the messages are


def _below(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in base.__subclasses__():
        yield each
        yield from _below(each)
