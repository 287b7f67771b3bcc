"""CRC-16 as meters send it, lowest bit first."""

from __future__ import annotations

import numpy as np
from numba import njit


def crc16_arc(data: bytes) -> int:
    """Of DSMR's P1 telegrams (polynomial 0x8005, begun with 0).

    >>> hex(crc16_arc(b"123456789"))
    '0xbb3d'
    """
    return int(_crc(np.frombuffer(data, np.uint8), 0xA001, 0))


def crc16_x25(data: bytes) -> int:
    """Of SML's transport and messages (ISO/IEC 13239: polynomial 0x1021, begun with all ones, inverted).

    >>> hex(crc16_x25(b"123456789"))
    '0x906e'
    """
    return int(_crc(np.frombuffer(data, np.uint8), 0x8408, 0xFFFF)) ^ 0xFFFF


def crc16_kermit(data: bytes) -> int:
    """Of some meters' SML (Holley's) in the place of X.25's: the same polynomial, begun with 0, not inverted.

    >>> hex(crc16_kermit(b"123456789"))
    '0x2189'
    """
    return int(_crc(np.frombuffer(data, np.uint8), 0x8408, 0))


@njit(nogil=True, cache=True)
def _crc(data, polynomial, begin):  # type: ignore[no-untyped-def]
    crc = begin
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return crc
