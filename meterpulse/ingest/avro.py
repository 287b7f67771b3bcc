"""Readings as Avro: one record a message, bare or behind the five bytes of Confluent's wire format, or a container file.

A record becomes the JSON object with the same fields, exactly, and goes the way of JSON from there; one that is refused is kept
as that object, so that people can read it and it can be replayed. Fields are those of a JSON reading. `start` is a
`timestamp-millis`, a number of milliseconds, or a text with an offset; `quantity` a decimal, a text or a number.

>>> Avro().as_json(message)
b'{"channel":"E-1","start":"2026-03-07T00:00:00Z","seconds":300,"quantity":"0.125"}'
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import orjson
from fastavro.schema import load_schema

from meterpulse.ingest.contract import RowError
from meterpulse.model.window import iso

_CONTAINER = b"Obj\x01"
_MS_MAX = 7_258_118_400_000  # 2200
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "namespace": "meterpulse",
    "fields": [
        {"name": "channel", "type": "string"},
        {"name": "start", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "seconds", "type": ["null", "int"], "default": None},
        {"name": "quantity", "type": "string", "doc": "a decimal number, such as 0.125"},
        {"name": "unit", "type": ["null", "string"], "default": None},
        {"name": "revision", "type": "long", "default": 0},
        {"name": "quality", "type": ["null", "string"], "default": None},
    ],
}


class Avro:
    """Messages of one schema: that of a file (.avsc), or `SCHEMA`. Raises OSError, ValueError where the file is no schema."""

    def __init__(self, schema: Path | None = None):
        try:
            self._schema = fastavro.parse_schema(SCHEMA) if schema is None else load_schema(str(schema))
        except Exception as error:  # fastavro has no common one
            raise ValueError(f"{schema} is no Avro schema: {error}") from None

    def as_json(self, message: bytes) -> bytes:
        """The record as a JSON object (of a container: one a line); raises RowError."""
        stream = io.BytesIO(message)
        try:
            if message[:4] == _CONTAINER:
                return b"\n".join(orjson.dumps(_plain(record)) for record in fastavro.reader(stream))
            record = fastavro.schemaless_reader(stream, self._schema, None)
            if rest := len(message) - stream.tell():
                raise RowError("wrong_type", f"{rest} bytes stand behind the Avro record; is it of this schema?")
            return orjson.dumps(_plain(record))
        except RowError:
            raise
        except Exception as error:  # bytes of another schema end anywhere in the reader
            text = f"not an Avro record of the schema: {type(error).__name__}: {error}"
            raise RowError("wrong_type", text[:200]) from None


def _plain(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise RowError("wrong_type", "the Avro schema is no record")
    return {name: _value(name, value) for name, value in record.items() if value is not None}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat()
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return str(value)
    if name == "start" and isinstance(value, int) and 0 <= value < _MS_MAX:
        return iso(value)
    return value.decode("latin-1") if isinstance(value, bytes) else value
