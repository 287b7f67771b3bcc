"""SML's transport and its tree (BSI TR-03109-1 Anlage IV, SML 1.04): bytes to telegrams, a telegram to nested lists.

>>> Frames().feed(b"noise " + START + b"\\x00" * 4 + bytes.fromhex("1b1b1b1b1a00b87b"))[0].problem
''
>>> elements(bytes.fromhex("72620165000000ff"))
[[1, 255]]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meterpulse.ingest.checksum import crc16_kermit, crc16_x25
from meterpulse.ingest.contract import RowError

ESCAPE = b"\x1b\x1b\x1b\x1b"
START = ESCAPE + b"\x01\x01\x01\x01"
TELEGRAM_BYTES_MAX = 64 * 1024
_BEFORE_BYTES = 2048  # kept of what comes before a telegram: a line with its time, and the end of one that was cut
_DEPTH_MAX = 16
_OCTETS, _BOOLEAN, _INTEGER, _UNSIGNED, _LIST = 0x00, 0x40, 0x50, 0x60, 0x70


class Short(int):
    """A signed number and how many bytes it came in: some meters leave off leading zeros of unsigned ones."""

    size: int

    def __new__(cls, value: int, size: int) -> Short:
        made = super().__new__(cls, value)
        made.size = size
        return made


@dataclass(frozen=True, slots=True)
class Frame:
    """A telegram from its start to its end: as it came, without escapes, what stood before it, and what is wrong with it."""

    original: bytes
    body: bytes
    before: bytes
    problem: str  # a reason of REASONS, or nothing


class Frames:
    """Cuts a stream of bytes, given in any pieces, into telegrams; remembers no more than one."""

    def __init__(self) -> None:
        self._waiting = b""
        self._before = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The telegrams that end in these bytes."""
        self._waiting += data
        found = []
        while (begin := self._waiting.find(START)) >= 0:
            if begin:
                self._before = (self._before + self._waiting[:begin])[-_BEFORE_BYTES:]
                self._waiting = self._waiting[begin:]
            cut = self._cut()
            if cut is None:
                break
            body, end, problem = cut
            found.append(Frame(self._waiting[:end], body, self._before, problem))
            self._waiting, self._before = self._waiting[end:], b""
        else:
            keep = len(START) - 1
            self._before = (self._before + self._waiting[:-keep])[-_BEFORE_BYTES:]
            self._waiting = self._waiting[-keep:]
        return found

    def rest(self) -> Frame | None:
        """A telegram that has begun and not ended."""
        if self._waiting.startswith(START):
            return Frame(self._waiting, b"", self._before, "truncated")
        return None

    def _cut(self) -> tuple[bytes, int, str] | None:
        """(its messages, where it ends, what is wrong) of the telegram that `_waiting` begins with; None while it goes on."""
        data, at, parts, done = self._waiting, len(START), [], len(START)
        while (at := data.find(ESCAPE, at)) >= 0 and at + 8 <= len(data):
            code = data[at + 4 : at + 8]
            if code == ESCAPE:  # four escapes of the telegram's own, sent twice
                parts.append(data[done : at + 4])
                at = done = at + 8
            elif code[0] == 0x1A and code[1] < 4:
                parts.append(data[done:at])
                body, end = b"".join(parts), at + 8
                wanted = int.from_bytes(code[2:], "little")
                right = wanted in (crc16_x25(data[: end - 2]), crc16_kermit(data[: end - 2]))
                return body[: len(body) - code[1]], end, "" if right else "bad_checksum"
            elif data.startswith(START, at):  # another one begins: the end of this was lost
                return b"", at, "truncated"
            else:
                at += 1
            if at > TELEGRAM_BYTES_MAX:
                break
        if len(data) > TELEGRAM_BYTES_MAX:
            again = data.find(START, len(START))
            return b"", again if again > 0 else len(data) - len(START) + 1, "truncated"
        return None


def elements(body: bytes) -> list[Any]:
    """The values that follow each other in `body`: lists, bytes, numbers, and None for what is left out; raises RowError."""
    out, at = [], 0
    while at < len(body):
        if body[at] == 0:  # padding
            at += 1
            continue
        value, at = element(body, at)
        out.append(value)
    return out


def element(data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """The value at `at` and where the next one begins; raises RowError."""
    if depth > _DEPTH_MAX:
        raise RowError("wrong_type", f"lists in lists, more than {_DEPTH_MAX} deep, are not SML's")
    begin, kind, length = at, data[at : at + 1], 0
    if not kind:
        raise _ended()
    if kind == b"\x00":
        return None, at + 1  # the end of a message
    while True:
        if at >= len(data) or at - begin > 3:
            raise _ended()
        length = length << 4 | data[at] & 0x0F
        at += 1
        if not data[at - 1] & 0x80:
            break
    what = kind[0] & 0x70
    if what == _LIST:
        items = []
        if length > len(data) - at:
            raise _ended()
        for _ in range(length):
            item, at = element(data, at, depth + 1)
            items.append(item)
        return items, at
    end = begin + length
    if end < at or end > len(data):
        raise _ended()
    content = data[at:end]
    if what == _OCTETS:
        return content or None, end
    if not 1 <= len(content) <= 8 or what not in (_BOOLEAN, _INTEGER, _UNSIGNED):
        raise RowError("wrong_type", f"type {kind[0]:02X} of {len(content)} bytes is not SML's")
    if what == _BOOLEAN:
        return content != b"\x00", end
    if what == _INTEGER:
        return Short(int.from_bytes(content, "big", signed=True), len(content)), end
    return int.from_bytes(content, "big"), end


def _ended() -> RowError:
    return RowError("wrong_type", "the telegram's lengths do not fit its bytes")
