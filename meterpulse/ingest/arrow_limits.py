"""How large an Arrow stream is once unpacked, read from its messages' headers before anything is unpacked.

Follows Message.fbs and Schema.fbs of the Arrow format 1.5: a compressed buffer begins with its unpacked length (int64).
"""

from __future__ import annotations

import struct

import pyarrow as pa

from meterpulse.ingest.contract import BodyError

ROW_BYTES = 16  # the smallest plain row: uint32 channel, int64 start, int32 quantity
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_I64, _I32, _U32, _U16 = (struct.Struct(f) for f in ("<q", "<i", "<I", "<H"))


def check_size(body: pa.Buffer, max_bytes: int) -> None:
    """Raises BodyError: 413 beyond `max_bytes` unpacked or their worth of rows, 400 where it is no stream."""
    size = rows = 0
    try:
        reader = pa.ipc.MessageReader.open_stream(body)
        while True:
            try:
                message = reader.read_next_message()
            except StopIteration:
                break
            batch_size, batch_rows = _unpacked(message)
            size, rows = size + batch_size, rows + batch_rows
            if size > max_bytes or rows > max(1024, max_bytes // ROW_BYTES):
                raise BodyError(413, f"the Arrow stream unpacks to more than {max_bytes} bytes; send it in parts")
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise BodyError(400, f"not an Arrow IPC stream: {str(error)[:200]}") from None


def _unpacked(message: pa.Message) -> tuple[int, int]:
    """(bytes, rows) of one message's body."""
    head, body = memoryview(message.metadata), message.body
    body_size = len(body) if body is not None else 0
    root = _U32.unpack_from(head, 0)[0]
    kind = head[_field(head, root, 1)] if _field(head, root, 1) else 0
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return body_size, 0
    batch = _follow(head, _field(head, root, 2))
    if kind == _DICTIONARY_BATCH:
        batch = _follow(head, _field(head, batch, 1))
    at = _field(head, batch, 0)
    rows = _I64.unpack_from(head, at)[0] if at else 0
    nodes = [a for a, _ in _pairs(head, batch, 1)]
    rows = max([rows, *nodes], default=0)
    if rows < 0 or min(nodes, default=0) < 0:
        raise ValueError("a negative length")
    if not _field(head, batch, 3):
        return body_size, rows
    data, size = memoryview(body) if body_size else memoryview(b""), 0
    for offset, length in _pairs(head, batch, 2):
        if offset < 0 or length < 0 or offset + length > body_size:
            raise ValueError("a buffer lies outside of its message")
        if length >= 8:
            unpacked = _I64.unpack_from(data, offset)[0]
            size += unpacked if unpacked >= 0 else length
    return size, rows


def _field(head: memoryview, table: int, number: int) -> int:
    """Where a table's field lies, 0 if it is absent."""
    vtable = table - _I32.unpack_from(head, table)[0]
    if vtable < 0:
        raise ValueError("a table lies outside of its message")
    if 4 + 2 * number >= _U16.unpack_from(head, vtable)[0]:
        return 0
    offset = _U16.unpack_from(head, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _follow(head: memoryview, at: int) -> int:
    if not at:
        raise ValueError("a message without its table")
    return at + _U32.unpack_from(head, at)[0]


def _pairs(head: memoryview, table: int, number: int) -> list[tuple[int, int]]:
    """A vector of structs of two int64."""
    at = _field(head, table, number)
    if not at:
        return []
    at = _follow(head, at)
    count = _U32.unpack_from(head, at)[0]
    end = at + 4 + 16 * count
    if end > len(head):
        raise ValueError("a vector lies outside of its message")
    return list(struct.iter_unpack("<qq", head[at + 4 : end]))
