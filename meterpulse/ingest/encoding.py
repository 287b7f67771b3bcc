"""Content-Encoding: gzip, unpacked no further than allowed (1000:1 bombs end early)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from meterpulse.ingest.contract import BodyError

_PIECE = 2**16


def decompress(body: bytes, encoding: str | None, max_bytes: int) -> bytes:
    """The body without its Content-Encoding. Raises BodyError: 413 beyond `max_bytes`, 415 for another encoding, 400
    where it is broken.

    >>> decompress(gzip.compress(b"abc"), "gzip", 1000)
    b'abc'
    """
    name = (encoding or "identity").strip().lower()
    if name not in ("identity", "gzip", "x-gzip"):
        raise BodyError(415, f"Content-Encoding {name[:40]!r} is not taken; send gzip or none")
    if name == "identity":
        if len(body) > max_bytes:
            raise BodyError(413, f"the body has {len(body)} bytes; at most {max_bytes} are taken, so send it in parts")
        return body
    if not body:
        raise BodyError(400, "the gzip body is empty")
    return b"".join(_unpacked(memoryview(body), max_bytes))


def _unpacked(body: memoryview, max_bytes: int) -> Iterator[bytes]:
    at, size = 0, 0
    while at < len(body):
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            piece = unpacker.unconsumed_tail or bytes(body[at : at + _PIECE])
            if not unpacker.unconsumed_tail:
                at += len(piece)
            try:
                part = unpacker.decompress(piece, _PIECE)
            except zlib.error as error:
                raise BodyError(400, f"the body is not gzip: {error}") from None
            size += len(part)
            if size > max_bytes:
                raise BodyError(413, f"the body unpacks to more than {max_bytes} bytes; send it in parts")
            if not part and not piece and not unpacker.eof:
                raise BodyError(400, "the gzip body is cut off")
            yield part
        at -= len(unpacker.unused_data)
        while (
            at < len(body) and body[at] == 0
        ):  # zeros behind a member are padding; what else follows is a further member
            at += 1
